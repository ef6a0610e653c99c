"""Endpoints in memory, joined in pairs, for tests and for simulators of hosts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from vknet.counters import DropReason
from vknet.endpoints.base import Endpoint
from vknet.errors import EndpointGone
from vknet.packet.ethernet import BATCH_BYTES, BATCH_FRAMES
from vknet.packet.gso import for_receiver, plain_frames
from vknet.packet.virtio import NO_OFFLOADS, OffloadFrame, header_kinds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.ethernet import Frame
    from vknet.packet.virtio import AnyFrame, Offload

__all__ = ["MemoryEndpoint", "memory_endpoint_pair"]

# The number of frames that a TAP queues by default (its txqueuelen).
CAPACITY_FRAMES: Final = 1000


@dataclass(slots=True)
class _Queue:
    """One direction of a pair.  It is bounded: a frame put into a full queue is dropped."""

    capacity: int
    frames: deque[bytes | OffloadFrame] = field(default_factory=deque)
    kinds: frozenset[int] = frozenset()
    """The first two bytes of the offload headers that its reader has enabled."""
    changed: trio.Event = field(default_factory=trio.Event)
    no_reader: bool = False
    no_writer: bool = False


class MemoryEndpoint(Endpoint):
    """One end of a pair in memory; `memory_endpoint_pair` creates both.

    Frames sent to one end are received at the other.  The queue between them is bounded; when it is
    full, a new frame is dropped, as a network card does.
    """

    def __init__(
        self,
        name: str,
        inbox: _Queue,
        outbox: _Queue,
        mtu: int | None,
        accepts: Offload = NO_OFFLOADS,
    ) -> None:
        super().__init__(name, mtu)
        self.accepts = accepts
        self._inbox = inbox
        self._outbox = outbox
        self._receiving = False

    async def set_offload(self, offloads: Offload) -> None:
        await trio.lowlevel.checkpoint()
        self._inbox.kinds = header_kinds(self.accepts & offloads)

    def receive_nowait(self) -> list[Frame]:
        return plain_frames(self.receive_offload_nowait(), self.receive_drops)

    def receive_offload_nowait(self, enough: int = BATCH_FRAMES) -> Sequence[AnyFrame]:
        self._raise_if_closed()
        waiting = self._inbox.frames
        frames: list[AnyFrame] = []
        size = 0
        while waiting and size < BATCH_BYTES and len(frames) < enough:
            frame = waiting.popleft()
            size += len(frame)
            frames.append(frame)
        if frames:
            return frames
        if self._inbox.no_writer:
            raise self._gone()
        raise trio.WouldBlock

    async def wait_receivable(self) -> None:
        if self._receiving:
            raise trio.BusyResourceError(f"another task is receiving from {self.name}")
        inbox = self._inbox
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while not (inbox.frames or inbox.no_writer or inbox.no_reader):
                inbox.changed = trio.Event()
                await inbox.changed.wait()
        finally:
            self._receiving = False
        self._raise_if_closed()

    async def send(self, frames: Sequence[Frame]) -> None:
        await trio.lowlevel.checkpoint()
        self.send_nowait(frames)

    async def send_offload(self, frames: Sequence[AnyFrame]) -> None:
        await trio.lowlevel.checkpoint()
        self.send_nowait(frames)

    def send_nowait(self, frames: Sequence[AnyFrame]) -> None:
        """Send frames like `send_offload`; a memory endpoint never waits for room.

        Raises:
            trio.ClosedResourceError: this endpoint was closed.
            EndpointGone: the other end was closed.
        """
        self._raise_if_closed()
        outbox = self._outbox
        if outbox.no_reader:
            raise self._gone()
        # Like a kernel, it segments frames that the reader has not enabled.
        for frame in for_receiver(
            frames, outbox.kinds, self.send_drops, check_all=True, mtu=self.mtu
        ):
            if not frame:
                self.send_drops[DropReason.EMPTY] += 1
            elif isinstance(frame, OffloadFrame):
                self._put(OffloadFrame(bytes(frame.data)))
            else:
                self._put(bytes(frame))
        outbox.changed.set()

    def _put(self, frame: bytes | OffloadFrame) -> None:
        if len(self._outbox.frames) >= self._outbox.capacity:
            self.send_drops[DropReason.ENDPOINT_FULL] += 1
        else:
            self._outbox.frames.append(frame)

    async def aclose(self) -> None:
        self._inbox.no_reader = self._outbox.no_writer = True
        self._inbox.changed.set()
        self._outbox.changed.set()
        await trio.lowlevel.checkpoint()

    def _gone(self) -> EndpointGone:
        return EndpointGone(f"the other end of {self.name} was closed")

    def _raise_if_closed(self) -> None:
        if self._inbox.no_reader:
            raise trio.ClosedResourceError(f"endpoint {self.name} was closed")


def memory_endpoint_pair(
    names: tuple[str, str] = ("memory-a", "memory-b"),
    *,
    capacity: int = CAPACITY_FRAMES,
    mtu: int | None = None,
    accepts: Offload = NO_OFFLOADS,
) -> tuple[MemoryEndpoint, MemoryEndpoint]:
    """Create two endpoints, each of which receives the frames sent to the other.

    Args:
        names: their names in messages.
        capacity: the number of frames that wait at each end before new ones are dropped.
        mtu: in bytes; a link tells it to the peer.  Longer plain frames are accepted.
        accepts: the offloads that both can enable.

    Returns:
        Both ends; the caller closes them.
    """
    forward, backward = _Queue(capacity), _Queue(capacity)
    usable = accepts.usable
    return (
        MemoryEndpoint(names[0], backward, forward, mtu, usable),
        MemoryEndpoint(names[1], forward, backward, mtu, usable),
    )
