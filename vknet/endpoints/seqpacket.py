"""A vknetd switch, or anything else that speaks one Ethernet frame a message: unix(7).

Two edges of SOCK_SEQPACKET are handled here.  A message of no bytes reads like the end of the
stream: only the peer having hung up, with nothing left to read, tells them apart.  A message longer
than the buffer is cut off, and only a flag says so: such a one is dropped.
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
from vknet.packet.ethernet import BATCH_BYTES, BATCH_FRAMES
from vknet.spec import DEFAULT_SOCKET, SOCKET_PATH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.ethernet import Frame

__all__ = ["SeqpacketEndpoint", "open_seqpacket"]

# The default holds four frames of 64 KB; bounded by net.core.wmem_max for a user without rights.
SOCKET_BUFFER: Final = 1024 * 1024

# How long a batch waits for a client that does not read before its frames are dropped: longer than
# a busy machine keeps a healthy switch from its turn, far shorter than any dead-peer timeout.
SEND_PATIENCE: Final = 0.25

# The longest frame in bytes, to begin with; what comes in one call is taken for the next one's.
USUAL_SIZE: Final = 1514


class SeqpacketEndpoint(Endpoint):
    """An endpoint on a connected SOCK_SEQPACKET socket, which it owns and closes."""

    def __init__(self, sock: socket.socket, name: str, mtu: int | None = None) -> None:
        super().__init__(name, mtu, mtu_fixed=True)
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
        self._sock = sock
        self._patience = SEND_PATIENCE
        self._longest = USUAL_SIZE

    def receive_nowait(self) -> list[Frame]:
        frames: list[Frame] = []
        size = seen = 0
        ended = False
        # Every message counts, good or not: a flood of bad ones must not hold the program.
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
            self._longest = max(map(len, messages), default=USUAL_SIZE)
            if ended or count < limit:
                break
        if frames:
            return frames
        if ended:
            raise self._gone()
        raise trio.WouldBlock

    def _without_empty(self, messages: list[bytes]) -> tuple[list[bytes], bool]:
        """Those that have bytes; and whether the rest was no message, but the connection's end."""
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
        patience = self._patience
        sent = 0
        taken = False
        while sent < len(frames):
            try:
                sent += send_messages(self._sock.fileno(), frames[sent : sent + CHUNK])
                taken = True
            except BlockingIOError:
                if patience <= 0:
                    self.send_drops[DropReason.ENDPOINT_FULL] += len(frames) - sent
                    break
                patience = await self._wait_for_room(patience)
            except OSError as exc:
                self._send_failed(exc)
                sent += 1
        # One patience a batch; and none at all for a client that took nothing of the last one.
        self._patience = SEND_PATIENCE if taken else patience

    def try_send(self, frames: Sequence[Frame]) -> int:
        sent = 0
        # What is empty is for `send` to count.
        if all(frames):
            with suppress(OSError):
                while sent < len(frames):
                    sent += send_messages(self._sock.fileno(), frames[sent : sent + CHUNK])
        if sent:
            self._patience = SEND_PATIENCE
        return sent

    async def _wait_for_room(self, patience: float) -> float:
        """Wait until the client reads, for so many seconds at most; how many are left."""
        before = trio.current_time()
        with trio.move_on_after(patience):
            await trio.lowlevel.wait_writable(self._sock)
        return patience - (trio.current_time() - before)

    def _send_failed(self, exc: OSError) -> None:
        """Count the frame for which there was no room, or raise what else was the matter."""
        self._raise_if_closed()
        if exc.errno in (ENOBUFS, ENOMEM):
            self.send_drops[DropReason.ENDPOINT_FULL] += 1
        elif exc.errno == EMSGSIZE:
            self.send_drops[DropReason.ENDPOINT_REFUSED] += 1
        else:
            raise self._gone() from exc

    def _at_end(self) -> bool:
        """Whether nothing can come any more, now that a message of no bytes was read."""
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        if not poll.poll(0):
            return False
        # What was sent before the hanging up is still to be read.
        (waiting,) = struct.unpack("i", fcntl.ioctl(self._sock, termios.FIONREAD, bytes(4)))
        return bool(waiting == 0)

    def _gone(self) -> EndpointGone:
        return EndpointGone(
            f"{self.name}: the switch behind the socket closed the connection:"
            " it was stopped, or takes no more clients"
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
    """Connect to the switch that listens at `path`.

    Args:
        path: of the socket, at most 107 bytes.
        mtu: in bytes, for the other side's TAP to follow; frames are not held to it.

    Raises:
        SetupError: nobody listens there, or this user may not connect.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise SetupError(
            f"{path}: a socket's path has at most {SOCKET_PATH_LIMIT} bytes; choose a shorter one"
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
        return f"{path}: no right to connect; join the group that owns it (ls -l {path})"
    if exc.errno == ENOENT:
        default = "; a host alone stands for it: for a TAP write HOST:auto"
        return f"{path}: no such socket; is vknetd running?{default * (path == DEFAULT_SOCKET)}"
    if Path(path).is_dir():
        return f"{path}: is a directory, and not a socket"
    if exc.errno == ECONNREFUSED:
        return f"{path}: nobody listens there; is vknetd running?"
    if exc.errno == EPROTOTYPE:
        return f"{path}: is a socket, but not SOCK_SEQPACKET; is it vknetd's?"
    if exc.errno == EAGAIN:
        return f"{path}: the switch does not accept connections just now"
    return f"{path}: cannot connect: {exc.strerror}"
