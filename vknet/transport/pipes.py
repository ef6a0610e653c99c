"""Two pipes as one byte stream: as trio's, but sooner with a write, and with longer pipes.

trio's own stream goes through the event loop before it writes; here a frame that has just come out
of an endpoint is written at once, and the event loop has its turn afterwards.

All reads of a link go into one buffer (`PipeStream.receive_view`).  A new one for each would leave
holes in the heap, of up to ten megabytes, and cost a little of the speed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Final, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import FdStream

__all__ = ["RECEIVE_SIZE", "PipeStream"]

T = TypeVar("T")

# What an unprivileged user may ask for (pipe(7), pipe-max-size).  With the 64 KB that a pipe has by
# itself nearly every super-frame takes two turns of both sides: that is less than half as fast, and
# two thirds as fast with 256 KB.
PIPE_SIZE: Final = 1024 * 1024

RECEIVE_SIZE: Final = 256 * 1024
"""How many bytes to read at once.  Twice as many bring nothing more; a quarter costs turns."""

# Where nothing else bounds what waits, a pipe is short until its reader has shown that it takes so
# many bytes per second, for so many seconds: what ssh itself takes in at first is not to count.
SHORT_SIZE: Final = 64 * 1024
FAST: Final = 32e6
SHOWN_FOR: Final = 0.5


class PipeStream(trio.abc.HalfCloseableStream):
    """Owns two pipe ends, and closes them.

    One task may send and one may receive at a time.

    Args:
        sending: the end that is written to.
        receiving: the end that is read from.
    """

    def __init__(self, sending: FdStream, receiving: FdStream) -> None:
        self._sending = sending
        self._receiving = receiving
        # While the pipe is short: since when bytes are counted, and how many.
        self._counted: tuple[float, int] | None = None
        self._buffer = bytearray(RECEIVE_SIZE)
        self._view = memoryview(self._buffer).toreadonly()
        for end in (sending, receiving):
            resize(end.fileno(), PIPE_SIZE)

    def shorten(self) -> None:
        """Let little wait in the pipe that is written to, unless its reader proves fast."""
        resize(self._sending.fileno(), SHORT_SIZE)
        self._counted = (trio.current_time(), 0)

    def lengthen(self) -> None:
        """Let much wait again, as it was at first."""
        resize(self._sending.fileno(), PIPE_SIZE)
        self._counted = None

    def send_nowait(self, *parts: bytes | bytearray | memoryview) -> int:
        """Write what the pipe takes at once, not while a `send_all` is under way.

        Args:
            parts: of what is to be written, in order, IOV_MAX (1024) at the most.

        Returns:
            How many bytes that were: perhaps none.

        Raises:
            trio.BrokenResourceError: nobody reads any more.
            trio.ClosedResourceError: this end was closed.
        """
        fd = self._fd(self._sending)
        try:
            sent = os.write(fd, parts[0]) if len(parts) == 1 else os.writev(fd, parts)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise self._broken(self._sending) from exc
        if self._counted is not None:
            self._count(sent)
        return sent

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
        return await self._receive(lambda fd: os.read(fd, size))

    async def receive_view(self) -> memoryview:
        """As `receive_some`, but what comes stays good until the next call only.

        Raises:
            trio.BrokenResourceError: the pipe broke.
            trio.ClosedResourceError: this end was closed.
        """
        return self._view[: await self._receive(lambda fd: os.readv(fd, (self._buffer,)))]

    async def _receive(self, read: Callable[[int], T]) -> T:
        fd = self._fd(self._receiving)
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while True:
            try:
                got = read(fd)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(fd)
                waited = True
            except OSError as exc:
                raise self._broken(self._receiving) from exc
            else:
                break
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return got

    async def send_eof(self) -> None:
        await self._sending.aclose()

    async def aclose(self) -> None:
        try:
            await self._sending.aclose()
        finally:
            await self._receiving.aclose()

    def _count(self, sent: int) -> None:
        """Find out whether the reader is fast."""
        since, before = self._counted or (0.0, 0)
        now = trio.current_time()
        if now - since < SHOWN_FOR:
            self._counted = (since, before + sent)
        elif before + sent >= FAST * (now - since):
            self.lengthen()
        else:
            self._counted = (now, 0)

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
    """Make a pipe hold so many bytes, if this user may, and if it is one."""
    # It may be a socket, as some sshd have it, or more may be in it, or the user may have too many
    # long pipes already; and a closed one, whose number is -1, is a ValueError.
    with contextlib.suppress(OSError, ValueError):
        if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) != size:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
