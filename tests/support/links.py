"""A link under test on streams and endpoints in memory, and a peer played block by block."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import trio
from trio.testing import MockClock

from tests.support.blocks import flat
from tests.support.superframes import Super
from vknet import (
    Link,
    LinkSettings,
    MemoryEndpoint,
    Monitor,
    StreamTransport,
    Transport,
    Up,
    VknetError,
    Wire,
    memory_endpoint_pair,
)
from vknet.framing import (
    FRAME_LIMIT_V2,
    Ack,
    Bye,
    Ping,
    Pong,
    encode_control,
    encode_frames,
)
from vknet.packet.virtio import ALL_OFFLOADS
from vknet.wire.decoder import Decoder
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.abc import Stream
    from trio.testing import MemoryReceiveStream, MemorySendStream

    from vknet.framing import Control
    from vknet.packet.virtio import OffloadFrame

    MemoryStream: TypeAlias = trio.StapledStream[MemorySendStream, MemoryReceiveStream]
    Streams: TypeAlias = tuple[MemoryStream, MemoryStream]

__all__ = [
    "FRAME",
    "SUPER",
    "TIMEOUT",
    "MemoryStream",
    "Peer",
    "Side",
    "Streams",
    "ending",
    "frames",
    "hello",
    "running",
    "side",
]

FRAME = bytes(range(60))
SUPER = Super(bytes(4000)).frame()
TIMEOUT = 15.0

# A test that waits in vain fails after this time with an error of its own, and not by the time-out
# of the suite.  A virtual clock jumps there when no task can run.
DEADLINE_S: Final = 60.0
VIRTUAL_DEADLINE_S: Final = 7200.0


class HasRun(Protocol):
    """A link, a cable or a sender: what runs until it is cancelled or fails."""

    async def run(self) -> object: ...


@asynccontextmanager
async def _background(
    tasks: tuple[HasRun | Callable[[], Awaitable[object]], ...],
) -> AsyncIterator[trio.Nursery]:
    is_virtual = isinstance(trio.lowlevel.current_clock(), MockClock)
    with trio.fail_after(VIRTUAL_DEADLINE_S if is_virtual else DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(task if callable(task) else task.run)
            yield nursery


@asynccontextmanager
async def running(*tasks: HasRun | Callable[[], Awaitable[object]]) -> AsyncIterator[trio.Nursery]:
    """Run these in the background, and cancel them at the end of the block.

    The value is their nursery, for a test that starts more of them later.
    """
    async with _background(tasks) as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def ending(*tasks: HasRun | Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run these in the background, and wait for their end at the end of the block."""
    async with _background(tasks):
        yield


def hello(timeout: float = TIMEOUT, frame_limit: int = FRAME_LIMIT_V2) -> Hello:
    return Hello("test", "an endpoint", frame_limit, None, mtu_fixed=False, timeout=timeout)


def frames(*frames: bytes) -> bytes:
    return encode_frames(frames, FRAME_LIMIT_V2).data


@dataclass
class Side:
    """A link under test, what is plugged into its endpoint, and its outcome."""

    link: Link
    plug: MemoryEndpoint
    outcome: BaseException | None = None

    async def run(self) -> None:
        try:
            await self.link.run()
        except VknetError as exc:
            self.outcome = exc

    async def up(self) -> Up:
        return await self.link.monitor.wait_for(Up)


def side(
    transport: Transport | Stream,
    wire: Wire = Wire.V2,
    timeout: float = TIMEOUT,
    *,
    adopt_timeout: bool = False,
    down_since: float | None = None,
    monitor: Monitor | None = None,
) -> Side:
    plug, endpoint = memory_endpoint_pair()
    if not isinstance(transport, Transport):
        transport = StreamTransport(transport, "the other side")
    settings = LinkSettings(wire, timeout, adopt_timeout)
    link = Link(endpoint, transport, settings, down_since=down_since, monitor=monitor)
    return Side(link, plug)


class Peer:
    """The other end of a link's stream, played by the test block by block."""

    def __init__(self, stream: trio.StapledStream[Any, Any], wire: Wire = Wire.V2) -> None:
        self.stream = stream
        self._decoder = Decoder(wire, offloads=ALL_OFFLOADS)
        self._blocks: list[bytes | OffloadFrame | Control] = []

    async def send(self, *what: bytes | Hello | Ack | Ping | Pong | Bye) -> None:
        for one in what:
            await self.stream.send_all(one if isinstance(one, bytes) else encode_control(one))

    async def next(self) -> bytes | OffloadFrame | Control:
        """The next block; a plain frame as bytes."""
        while not self._blocks:
            data = await self.stream.receive_some()
            if not data:
                self._decoder.end()
                raise EOFError
            decoded = self._decoder.feed(bytes(data))
            self._blocks += flat(decoded)
            if decoded.error is not None:
                raise decoded.error
        return self._blocks.pop(0)
