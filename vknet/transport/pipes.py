"""Two pipes as one byte stream.

It differs from trio's own stream in three points.  A write is tried at once, where trio's goes
through the event loop first.  The pipes are longer.  And all reads of a link go into one buffer,
since a new buffer for each would leave holes of up to ten megabytes in the heap.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from vknet.transport.base import RECEIVE_SIZE, ByteStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import FdStream

__all__ = ["PipeStream"]

T = TypeVar("T")

# The largest size in bytes for an unprivileged user (pipe(7), pipe-max-size).  With the default of
# 64 KB nearly every super-frame takes two turns of both sides: throughput is less than half, and
# with 256 KB two thirds.
PIPE_SIZE: Final = 1024 * 1024


class PipeStream(ByteStream):
    """Two pipe ends as one stream; it owns them and closes them.

    Args:
        sending: the end that is written to.
        receiving: the end that is read from.
    """

    def __init__(self, sending: FdStream, receiving: FdStream) -> None:
        self._sending = sending
        self._receiving = receiving
        self._buffer = bytearray(RECEIVE_SIZE)
        self._view = memoryview(self._buffer).toreadonly()
        for end in (sending, receiving):
            resize(end.fileno(), PIPE_SIZE)

    def send_nowait(self, *parts: bytes | bytearray | memoryview) -> int:
        fd = self._fd(self._sending)
        try:
            return os.write(fd, parts[0]) if len(parts) == 1 else os.writev(fd, parts)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise self._broken(self._sending) from exc

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        with memoryview(data) as view:
            sent = self.send_nowait(view)
            while sent < len(view):
                await trio.lowlevel.wait_writable(self._fd(self._sending))
                waited = True
                sent += self.send_nowait(view[sent:])
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await self._sending.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        size = PIPE_SIZE if max_bytes is None else max_bytes
        if size < 1:
            raise ValueError(f"max_bytes must be at least 1, not {size}")
        return await self._receive(lambda fd: os.read(fd, size))

    async def receive(self) -> memoryview:
        return self._view[: await self._receive(lambda fd: os.readv(fd, (self._buffer,)))]

    async def _receive(self, read: Callable[[int], T]) -> T:
        fd = self._fd(self._receiving)
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while True:
            try:
                result = read(fd)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(fd)
                waited = True
            except OSError as exc:
                raise self._broken(self._receiving) from exc
            else:
                break
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return result

    async def send_eof(self) -> None:
        await self._sending.aclose()

    async def aclose(self) -> None:
        try:
            await self._sending.aclose()
        finally:
            # Something may refer to this stream for longer, such as the traceback of an error.
            self._buffer = bytearray()
            self._view = memoryview(b"")
            await self._receiving.aclose()

    def _fd(self, end: FdStream) -> int:
        fd = end.fileno()
        if fd < 0:
            raise trio.ClosedResourceError("this end of the stream was closed")
        return fd

    def _broken(self, end: FdStream) -> Exception:
        if end.fileno() < 0:
            return trio.ClosedResourceError("this end of the stream was closed meanwhile")
        return trio.BrokenResourceError("the pipe broke")


def resize(fd: int, size: int) -> None:
    """Set the size of a pipe in bytes, if it is one and this user may."""
    # It may be a socket, as some sshd have it; more bytes may be in it; or the user may have too
    # many long pipes already.  A closed one has the number -1, which is a ValueError.
    with contextlib.suppress(OSError, ValueError):
        if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) != size:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
