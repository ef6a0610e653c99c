"""Endpoints in memory, joined in pairs: for tests, and for simulators with hosts of their own."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from vknet.endpoints.base import BATCH_BYTES, BATCH_FRAMES, Drop, Endpoint
from vknet.errors import EndpointGone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.framing import Frame

__all__ = ["MemoryEndpoint", "memory_endpoint_pair"]

# As many as a TAP holds by default (txqueuelen).
CAPACITY: Final = 1000


@dataclass(slots=True)
class _Queue:
    """One direction of the wire.  Bounded: who puts a frame into a full one drops that frame."""

    capacity: int
    frames: deque[bytes] = field(default_factory=deque)
    changed: trio.Event = field(default_factory=trio.Event)
    no_reader: bool = False
    no_writer: bool = False


class MemoryEndpoint(Endpoint):
    """One end of a wire in memory; made by `memory_endpoint_pair`.

    What is sent into one end is received from the other.  The queue between them is bounded: the
    newest frame is dropped when it is full, as a network card does.
    """

    def __init__(self, name: str, inbox: _Queue, outbox: _Queue, mtu: int | None) -> None:
        super().__init__(name, mtu)
        self._inbox = inbox
        self._outbox = outbox
        self._receiving = False

    def receive_nowait(self) -> list[Frame]:
        self._raise_if_closed()
        waiting = self._inbox.frames
        frames: list[Frame] = []
        size = 0
        while waiting and size < BATCH_BYTES and len(frames) < BATCH_FRAMES:
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

    def send_nowait(self, frames: Sequence[Frame]) -> None:
        """As `send`, which never has to wait here.

        Raises:
            trio.ClosedResourceError: this end was closed.
            EndpointGone: the other end was closed.
        """
        self._raise_if_closed()
        outbox = self._outbox
        if outbox.no_reader:
            raise self._gone()
        for frame in frames:
            if not frame:
                self.send_drops[Drop.EMPTY] += 1
            elif len(outbox.frames) >= outbox.capacity:
                self.send_drops[Drop.FULL] += 1
            else:
                outbox.frames.append(bytes(frame))
        outbox.changed.set()

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
) -> tuple[MemoryEndpoint, MemoryEndpoint]:
    """Two endpoints, each receiving what is sent into the other.

    Args:
        names: what to call them.
        capacity: how many frames wait at an end before new ones are dropped.
        mtu: in bytes, told to a peer; frames are not held to it.
    """
    there, back = _Queue(capacity), _Queue(capacity)
    return MemoryEndpoint(names[0], back, there, mtu), MemoryEndpoint(names[1], there, back, mtu)
