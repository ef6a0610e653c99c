"""Endpoints in memory, joined in pairs: for tests, and for simulators with hosts of their own."""

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

# As many as a TAP holds by default (txqueuelen).
CAPACITY: Final = 1000


@dataclass(slots=True)
class _Queue:
    """One direction of the wire.  Bounded: who puts a frame into a full one drops that frame."""

    capacity: int
    frames: deque[bytes | OffloadFrame] = field(default_factory=deque)
    kinds: frozenset[int] = frozenset()
    """The offload frames that its reader has asked for."""
    changed: trio.Event = field(default_factory=trio.Event)
    no_reader: bool = False
    no_writer: bool = False


class MemoryEndpoint(Endpoint):
    """One end of a wire in memory; made by `memory_endpoint_pair`.

    What is sent into one end is received from the other.  The queue between them is bounded: the
    newest frame is dropped when it is full, as a network card does.
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
        """As `send`, which never has to wait here.

        Raises:
            trio.ClosedResourceError: this end was closed.
            EndpointGone: the other end was closed.
        """
        self._raise_if_closed()
        outbox = self._outbox
        if outbox.no_reader:
            raise self._gone()
        # Like a kernel, it segments what the reader has not asked for.
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
    capacity: int = CAPACITY,
    mtu: int | None = None,
    accepts: Offload = NO_OFFLOADS,
) -> tuple[MemoryEndpoint, MemoryEndpoint]:
    """Two endpoints, each receiving what is sent into the other.

    Args:
        names: what to call them.
        capacity: how many frames wait at an end before new ones are dropped.
        mtu: in bytes, told to a peer; plain frames are not held to it.
        accepts: what may be left undone in the frames that are sent to either, by the names of
            `vknet.packet.virtio`.
    """
    there, back = _Queue(capacity), _Queue(capacity)
    both = accepts.usable
    return (
        MemoryEndpoint(names[0], back, there, mtu, both),
        MemoryEndpoint(names[1], there, back, mtu, both),
    )
