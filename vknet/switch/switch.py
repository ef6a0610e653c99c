"""The switch: endpoints are its ports, and a MAC table says which port a frame leaves through.

    endpoint of port A -> _read -> _distribute -> a batch for each destination port, turn by turn
    a batch for port B -> endpoint of port B, as much as it takes without waiting
                       -> queue of port B -> _write -> endpoint of port B

A port has two tasks.  The reader drains its endpoint and distributes the batch without waiting for
any port; each destination port gets its share of the batch in one call.  Usually that port's
endpoint takes all of it at once, which saves waking the writer.  What it does not take is queued.
Later frames are queued, too, until the writer has sent all that was queued before: the frames of a
flow keep their order.

Turns: a flooded batch is copied to every port, which takes long if there are many ports.  The
reader therefore counts its copies, and after `COPIES_PER_TURN` it lets the other tasks run.  The
event loop runs each of them once before it returns to this one, so ports share the switch by
copies, whatever they send.  A flood delays the frames of another port by one turn, not by a batch.

Drops: the queue of a port is a flow queue (`vknet.qdisc.fq_codel`) of limited size.  It marks or
drops frames that wait too long, and when it is full it drops from the flow with the longest queue.
A client that reads slowly, or not at all, loses only its own frames.  No client can block a reader.
An endpoint that has taken nothing for a while is stalled: the frames for it are dropped uncopied,
until it has room again.

The switch does not own the endpoints: the caller opens and closes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from vknet.counters import Counters, DropReason
from vknet.errors import EndpointGone
from vknet.packet.ethernet import BATCH_BYTES
from vknet.qdisc.fq_codel import FlowQueue
from vknet.switch.routing import COPIES_PER_TURN, ROUTE_KEY_BYTES, BatchRouter
from vknet.switch.table import AGE_S, ENTRIES_MAX, MacTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vknet.endpoints.base import Endpoint
    from vknet.packet.ethernet import Frame
    from vknet.switch.guard import Guard

__all__ = ["Port", "Switch"]

# The size of a port's queue.  A TAP holds slightly fewer frames (1000).  The bytes are enough for a
# burst of the longest frames.
QUEUE_FRAMES: Final = 1024
QUEUE_BYTES: Final = 1024 * 1024


@dataclass(slots=True, eq=False)
class Port:
    """A port; `Switch.serve` creates it.

    Attributes:
        name: the name of its endpoint.
        endpoint: the source and sink of its frames; the caller of `Switch.serve` owns it.
        is_uplink: it leads outside; the guard of the switch decides what leaves through it.
        counters: inbound counts the frames that came into the switch through the port, outbound
            those that left through it.  The drops of the endpoint itself are not included;
            `snapshot` adds them.
        queue: the frames that wait to leave through the port.
        writer_wakeup: set while the writer has work.  While it is not set, the queue is empty and
            the writer is not sending.
        stalled: the endpoint has no room and has taken nothing for a while.  Frames for it are
            dropped until it has room.
    """

    name: str
    endpoint: Endpoint
    is_uplink: bool = False
    counters: Counters = field(default_factory=Counters)
    queue: FlowQueue[Frame] = field(init=False)
    writer_wakeup: trio.Event = field(default_factory=trio.Event)
    stalled: bool = False

    def __post_init__(self) -> None:
        self.queue = FlowQueue(
            limit_bytes=QUEUE_BYTES,
            limit_frames=QUEUE_FRAMES,
            drops=self.counters.outbound.drops,
        )

    def forward(self, frames: list[Frame], now: float) -> None:
        """Send frames through this port, or queue them behind the frames that wait already."""
        if self.stalled:
            self.counters.outbound.drops[DropReason.ENDPOINT_FULL] += len(frames)
            return
        if not self.writer_wakeup.is_set():
            taken = self.endpoint.try_send(frames)
            self._count_outbound(frames[:taken])
            frames = frames[taken:]
            if not frames:
                return
        self.queue.push(frames, now)
        self.writer_wakeup.set()

    def dequeue(self, now: float) -> list[Frame]:
        """Take the next batch from the queue, and count it as sent."""
        frames = self.queue.pull(now, BATCH_BYTES)
        self._count_outbound(frames)
        self.counters.outbound.ecn_marks = self.queue.ecn_marks
        return frames

    async def wait_while_stalled(self) -> None:
        """Drop the queued frames and all further ones until the endpoint has room."""
        self.stalled = True
        self.queue.discard(DropReason.ENDPOINT_FULL)
        try:
            await self.endpoint.wait_sendable()
        finally:
            self.stalled = False

    def _count_outbound(self, frames: list[Frame]) -> None:
        self.counters.outbound.frames += len(frames)
        self.counters.outbound.bytes += sum(map(len, frames))

    def snapshot(self) -> Counters:
        """Return a copy of the counters, with the drops of the endpoint included."""
        total = Counters(self.counters.outbound.copy(), self.counters.inbound.copy())
        total.inbound.drops += self.endpoint.receive_drops
        total.outbound.drops += self.endpoint.send_drops
        return total


class Switch:
    """A learning, VLAN-aware Ethernet switch between endpoints.

    Args:
        age: the aging time of the MAC table, in seconds.
        limit: the maximum number of entries in the MAC table.
        guard: protects the network behind the uplink from all other ports; None lets all pass.

    Attributes:
        table: the MAC table: which address is behind which port.
    """

    def __init__(
        self, *, age: float = AGE_S, limit: int = ENTRIES_MAX, guard: Guard | None = None
    ) -> None:
        self.table: MacTable[Port] = MacTable(age, limit)
        self._guard = guard
        self._ports: dict[Port, None] = {}
        self._uplink: Port | None = None
        self._reserved: tuple[bytes, ...] = ()

    @property
    def ports(self) -> list[Port]:
        """The current ports, in the order in which they were added."""
        return list(self._ports)

    def reserve(self, macs: Iterable[bytes]) -> None:
        """Set the MAC addresses that belong to the uplink, whether or not it is a port now.

        Frames with these sources are dropped on all other ports.
        """
        self._reserved = tuple(macs)
        self.table.pin(self._reserved, self._uplink)

    async def serve(self, endpoint: Endpoint, *, is_uplink: bool = False) -> None:
        """Serve an endpoint as a port, until its owner closes it, it is gone, or this is cancelled.

        The caller owns the endpoint; it is not closed here.  At the end, the entries of the port
        leave the MAC table.  It returns when the endpoint was closed, before the call or during it.

        Args:
            endpoint: the source and sink of the port's frames.
            is_uplink: it leads outside.  At most one port does.

        Raises:
            EndpointGone: the endpoint no longer exists.
        """
        port = Port(endpoint.name, endpoint, is_uplink)
        if is_uplink:
            self._uplink = port
            self.table.pin(self._reserved, port)
        self._ports[port] = None
        gone: list[BaseException] = []
        closed = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, port)
                nursery.start_soon(self._write, port)
        except* trio.ClosedResourceError:
            closed = True
        except* EndpointGone as group:
            gone.extend(group.exceptions)
        finally:
            del self._ports[port]
            self.table.forget(port)
            if self._guard is not None:
                self._guard.forget(port)
            if is_uplink:
                self._uplink = None
        if gone and not closed:
            raise gone[0]

    async def _read(self, port: Port) -> None:
        endpoint = port.endpoint
        while True:
            # Even if more frames may be ready: this is the checkpoint of the loop, too, and usually
            # the last batch took all there was, so that trying first would fail.
            await endpoint.wait_receivable()
            try:
                frames = endpoint.receive_nowait()
            except trio.WouldBlock:
                continue
            await self._distribute(port, frames)

    async def _write(self, port: Port) -> None:
        while True:
            while not port.queue:
                port.writer_wakeup = trio.Event()
                await port.writer_wakeup.wait()
            if frames := port.dequeue(trio.current_time()):
                await port.endpoint.send(frames)
                if port.endpoint.is_stalled:
                    await port.wait_while_stalled()

    async def _distribute(self, port: Port, frames: list[Frame]) -> None:
        """Forward a batch that came in through a port; let other tasks run between two turns."""
        inbound = port.counters.inbound
        inbound.frames += len(frames)
        inbound.bytes += sum(map(len, frames))
        now = trio.current_time()
        router = BatchRouter(self.table, self._guard, port, self._uplink, now)
        routes, first = router.routes, router.first
        for frame in frames:
            route = routes.get(frame[:ROUTE_KEY_BYTES])
            if route is None:
                first(frame)
            else:
                for add in route:
                    add(frame)
        copies = 0
        for other, batch, cost in router.shares(self._ports):
            if copies >= COPIES_PER_TURN:
                await trio.lowlevel.checkpoint()
                copies, now = 0, trio.current_time()
                if other not in self._ports:
                    continue
            copies += cost
            other.forward(batch, now)
