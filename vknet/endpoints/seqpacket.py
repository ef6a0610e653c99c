"""An endpoint on a SOCK_SEQPACKET socket, such as vknetd's: one Ethernet frame per message.

Two properties of SOCK_SEQPACKET (unix(7), recv(2)) need care:

* A message of zero bytes looks like the end of the connection.  It is the end only if the peer has
  hung up and nothing is left to read.
* A message longer than the buffer is truncated, which only MSG_TRUNC tells.  It is dropped.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
from contextlib import suppress
from errno import EAGAIN, ECONNREFUSED, EMSGSIZE, ENOBUFS, ENOENT, ENOMEM, EPROTOTYPE
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from vknet.counters import DropReason
from vknet.endpoints.base import Endpoint
from vknet.endpoints.mmsg import CHUNK, receive_messages, send_messages
from vknet.errors import EndpointGone, SetupError
from vknet.packet.ethernet import BATCH_BYTES, BATCH_FRAMES, FULL_FRAME
from vknet.spec import DEFAULT_SOCKET, SOCKET_PATH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.ethernet import Frame

__all__ = ["SeqpacketEndpoint", "open_seqpacket"]

# SO_SNDBUF and SO_RCVBUF.  The kernel's default holds only four frames of 64 KB.  Without
# CAP_NET_ADMIN the kernel limits it to net.core.wmem_max and rmem_max.
SOCKET_BUFFER_BYTES: Final = 1024 * 1024

# The time that a batch waits for a peer that does not read, before its frames are dropped.  A busy
# machine delays a healthy switch for less; every dead-peer timeout is far longer.
SEND_TIMEOUT_S: Final = 0.25


class SeqpacketEndpoint(Endpoint):
    """An endpoint on a connected SOCK_SEQPACKET socket, which it owns and closes.

    Args:
        sock: the socket; it becomes non-blocking.
        name: the name for messages.
        mtu: in bytes; a link tells it to the peer.  Longer frames are accepted.
    """

    def __init__(self, sock: socket.socket, name: str, mtu: int | None = None) -> None:
        super().__init__(name, mtu, mtu_fixed=True)
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
        self._sock = sock
        # The time that the next batch may wait.  It is 0 after a batch of which nothing was taken.
        self._send_timeout = SEND_TIMEOUT_S
        # The longest message of the last call, in bytes: it sizes the next call.
        self._longest = FULL_FRAME

    def receive_nowait(self) -> list[Frame]:
        frames: list[Frame] = []
        size = seen = 0
        ended = False
        # Bad messages count, too: a flood of them must not stop the event loop.
        while size < BATCH_BYTES and seen < BATCH_FRAMES:
            limit = min(BATCH_FRAMES - seen, CHUNK, 1 + (BATCH_BYTES - size) // self._longest)
            try:
                messages, cut = receive_messages(self._sock.fileno(), limit)
            except BlockingIOError:
                break
            except OSError as exc:
                self._raise_if_closed()
                if frames:
                    break
                raise self._gone() from exc
            count = len(messages) + cut
            seen += count
            if cut:
                self.receive_drops[DropReason.TRUNCATED] += cut
            if not all(messages):
                messages, ended = self._without_empty(messages)
            frames += messages
            size += sum(map(len, messages))
            self._longest = max(map(len, messages), default=FULL_FRAME)
            if ended or count < limit:
                break
        if frames:
            return frames
        if ended:
            raise self._gone()
        raise trio.WouldBlock

    def _without_empty(self, messages: list[bytes]) -> tuple[list[bytes], bool]:
        """Return the messages that are not empty, and whether the connection has ended."""
        ended = not messages[-1] and self._at_end()
        if ended:
            while messages and not messages[-1]:
                messages.pop()
        whole = [message for message in messages if message]
        if len(whole) < len(messages):
            self.receive_drops[DropReason.EMPTY] += len(messages) - len(whole)
        return whole, ended

    async def wait_receivable(self) -> None:
        self._raise_if_closed()
        await trio.lowlevel.wait_readable(self._sock)

    async def send(self, frames: Sequence[Frame]) -> None:
        self._raise_if_closed()
        if not all(frames):
            self.send_drops[DropReason.EMPTY] += sum(not frame for frame in frames)
            frames = [frame for frame in frames if frame]
        timeout = self._send_timeout
        sent = 0
        taken = False
        while sent < len(frames):
            try:
                sent += send_messages(self._sock.fileno(), frames[sent : sent + CHUNK])
                taken = True
            except BlockingIOError:
                if timeout <= 0:
                    self.send_drops[DropReason.ENDPOINT_FULL] += len(frames) - sent
                    break
                timeout = await self._wait_for_room(timeout)
            except OSError as exc:
                self._send_failed(exc)
                sent += 1
        # A peer that took nothing of this batch gets only what is left of the time.
        self._send_timeout = SEND_TIMEOUT_S if taken else timeout

    def try_send(self, frames: Sequence[Frame]) -> int:
        sent = 0
        # `send` counts empty frames.
        if all(frames):
            with suppress(OSError):
                while sent < len(frames):
                    sent += send_messages(self._sock.fileno(), frames[sent : sent + CHUNK])
        if sent:
            self._send_timeout = SEND_TIMEOUT_S
        return sent

    @property
    def is_stalled(self) -> bool:
        return self._send_timeout <= 0

    async def wait_sendable(self) -> None:
        self._raise_if_closed()
        await trio.lowlevel.wait_writable(self._sock)

    async def _wait_for_room(self, timeout: float) -> float:
        """Wait until the peer reads, or until the timeout; return the seconds that are left."""
        before = trio.current_time()
        with trio.move_on_after(timeout):
            await trio.lowlevel.wait_writable(self._sock)
        return timeout - (trio.current_time() - before)

    def _send_failed(self, exc: OSError) -> None:
        """Count the frame if it alone was refused; otherwise the connection has ended."""
        self._raise_if_closed()
        if exc.errno in (ENOBUFS, ENOMEM):
            self.send_drops[DropReason.ENDPOINT_FULL] += 1
        elif exc.errno == EMSGSIZE:
            self.send_drops[DropReason.ENDPOINT_REFUSED] += 1
        else:
            raise self._gone() from exc

    def _at_end(self) -> bool:
        """Whether a message of zero bytes, just read, was the end of the connection."""
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        if not poll.poll(0):
            return False
        # Messages sent before the peer hung up are still to be read.
        (waiting,) = struct.unpack("i", fcntl.ioctl(self._sock, termios.FIONREAD, bytes(4)))
        return bool(waiting == 0)

    def _gone(self) -> EndpointGone:
        return EndpointGone(
            f"{self.name}: the switch closed the connection:"
            " it was stopped, or accepts no more clients"
        )

    def _raise_if_closed(self) -> None:
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError(f"endpoint {self.name} was closed")

    async def aclose(self) -> None:
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
        await trio.lowlevel.checkpoint()


async def open_seqpacket(path: str, mtu: int | None = None) -> SeqpacketEndpoint:
    """Connect to the switch that listens on `path`.

    Args:
        path: of the socket, at most 107 bytes.
        mtu: in bytes, for the peer's TAP to follow.  Longer frames are accepted.

    Returns:
        The endpoint, which the caller closes.

    Raises:
        SetupError: no program listens there, or this user may not connect.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise SetupError(
            f"{path}: the path of a socket has at most {SOCKET_PATH_LIMIT} bytes; shorten it"
        )
    await trio.lowlevel.checkpoint()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.setblocking(False)
        sock.connect(path)
    except OSError as exc:
        sock.close()
        raise SetupError(_why_not(path, exc)) from exc
    return SeqpacketEndpoint(sock, path, mtu)


def _why_not(path: str, exc: OSError) -> str:
    if isinstance(exc, PermissionError):
        return f"{path}: no permission to connect; join the group that owns it (ls -l {path})"
    if exc.errno == ENOENT:
        hint = ""
        if path == DEFAULT_SOCKET:
            hint = f" (HOST alone means HOST:{path}; for a TAP write HOST:auto)"
        return f"{path}: no such socket; is vknetd running?{hint}"
    if Path(path).is_dir():
        return f"{path}: is a directory, not a socket"
    if not Path(path).is_socket():
        return f"{path}: is a file, not a socket"
    if exc.errno == ECONNREFUSED:
        return f"{path}: no program listens there; is vknetd running?"
    if exc.errno == EPROTOTYPE:
        return f"{path}: is a socket, but not SOCK_SEQPACKET; is it vknetd's?"
    if exc.errno == EAGAIN:
        return f"{path}: the switch accepts no connections at the moment; try again"
    return f"{path}: cannot connect: {exc.strerror}"
