"""What carries a link: a byte stream, and the tasks and processes that belong to it.

The link's nursery holds everything; a transport only says what that is.  `SshTransport`
(vknet.transport.ssh) runs ssh, `StdioTransport` (vknet.transport.stdio) uses this program's own
stdin and stdout, and `StreamTransport` uses a stream that the caller already has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

import trio

from vknet.errors import PeerGone

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from trio.abc import Stream

    from vknet.errors import VknetError

    StartSoon: TypeAlias = Callable[..., None]
    """Starts a task, as `trio.Nursery.start_soon` does."""

__all__ = [
    "RECEIVE_SIZE",
    "AdaptedStream",
    "ByteStream",
    "StreamTransport",
    "Transport",
    "as_byte_stream",
]

RECEIVE_SIZE: Final = 256 * 1024
"""The number of bytes to read at once.  Twice as many gain nothing; a quarter costs more turns."""


class ByteStream(trio.abc.HalfCloseableStream):
    """The byte stream of one link.

    One task may send and one may receive at a time.  The other methods are those of trio's streams:
    they raise trio.BrokenResourceError when the stream broke, and trio.ClosedResourceError when
    this end was closed.
    """

    def send_nowait(self, *parts: bytes | bytearray | memoryview) -> int:
        """Write what the stream takes without waiting.  Do not call it during a `send_all`.

        Args:
            parts: the bytes in order, in at most IOV_MAX (1024) parts.

        Returns:
            The number of bytes written, possibly 0.

        Raises:
            trio.BrokenResourceError: the reader is gone.
            trio.ClosedResourceError: this end was closed.
        """
        del parts
        return 0

    @abstractmethod
    async def receive(self) -> bytes | memoryview:
        """Wait for bytes; they are empty at the end of the stream.

        A view is valid until the next call.

        Raises:
            trio.BrokenResourceError: the stream broke.
            trio.ClosedResourceError: this end was closed.
        """


class AdaptedStream(ByteStream):
    """Any trio stream as the byte stream of a link; it owns the stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End the sending direction, if the stream can do that."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        else:
            await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def receive(self) -> bytes:
        return await self.receive_some(RECEIVE_SIZE)

    async def aclose(self) -> None:
        await self._stream.aclose()


def as_byte_stream(stream: Stream) -> ByteStream:
    """Return the stream as a `ByteStream`, adapted unless it is one."""
    return stream if isinstance(stream, ByteStream) else AdaptedStream(stream)


class Transport(ABC):
    """Opens the byte stream of one link, once.

    Attributes:
        peer: what people call the other end.
        reached: set when the peer may be expected to answer: its silence counts from then on.
            Frames wait for the link to be up, not for this.
        up: set by the link when it is up.
        sees_login: whether `reached` means that the login is over.  If not, a person may still be
            typing a password.
        answered: whether the peer has sent a valid block; the link sets it.
    """

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.reached = trio.Event()
        self.up = trio.Event()
        self.sees_login = True
        self.answered = False

    @abstractmethod
    async def open(self, start_soon: StartSoon) -> Stream:
        """Open the byte stream; the link closes it.

        The link uses a `ByteStream` as it is, and adapts any other trio stream to one.

        Tasks that the stream needs are started with `start_soon`, in the link's own nursery: they
        end with it, and it ends with the first of them that fails.  If `open` is cancelled, nothing
        has been opened.

        Raises:
            SetupError: the stream cannot be opened.
        """

    async def why_ended(self) -> VknetError:
        """Return the error that says why the stream ended; it may wait a moment to find out."""
        await trio.lowlevel.checkpoint()
        return PeerGone(f"{self.peer} closed the stream")


class StreamTransport(Transport):
    """A trio stream that is already open.  The link owns it from `open` on, and closes it."""

    def __init__(self, stream: Stream, peer: str = "the peer") -> None:
        super().__init__(peer)
        self._stream = stream

    async def open(self, start_soon: StartSoon) -> Stream:
        del start_soon
        self.reached.set()
        return self._stream
