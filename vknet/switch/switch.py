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
from typing import TYPE_CHECKING, Final, Protocol

import trio

from vknet.counters import Counters, DropReason
from vknet.errors import EndpointGone
from vknet.packet.ethernet import (
    BATCH_BYTES,
    ETHERNET_HEADER_SIZE,
    TAG_SIZE,
    addresses,
    is_multicast,
)
from vknet.qdisc.fq_codel import FlowQueue
from vknet.switch.table import AGE_S, ENTRIES_MAX, MacTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vknet.endpoints.base import Endpoint
    from vknet.packet.ethernet import Frame

__all__ = ["Port", "Switch"]

# The size of a port's queue.  A TAP holds slightly fewer frames (1000).  The bytes are enough for a
# burst of the longest frames.
QUEUE_FRAMES: Final = 1024
QUEUE_BYTES: Final = 1024 * 1024

# A reader lets other tasks run after this number of queued copies, and no call for one port queues
# more.  Queueing a copy takes up to 20 us (a full queue of 1024 flows), so a turn takes less than
# 5 ms.
COPIES_PER_TURN: Final = 64

# A copy that an endpoint takes at once is cheaper: this many count as one.
SENT_PER_COPY: Final = 4

# What else counts as copies: the call for one port, and each further 4 KiB of a batch.
CALL_COPIES: Final = 8
COPY_BYTES: Final = 4096

# The destination ports of a frame depend on this number of leading bytes only: the addresses, and
# the VLAN tag.  In an untagged frame the last two are payload.  They are the first two bytes of IP
# or ARP, which hardly vary, so that they seldom cost a look-up of their own.
ROUTE_KEY_BYTES: Final = ETHERNET_HEADER_SIZE + TAG_SIZE - 2


class FrameFilter(Protocol):
    """Decides which frames may leave through a port."""

    def check(self, frame: Frame) -> DropReason | None:
        """Return why a frame must be dropped; None if it may leave."""


@dataclass(slots=True, eq=False)
class Port:
    """A port; `Switch.serve` creates it.

    Attributes:
        name: the name of its endpoint.
        endpoint: the source and sink of its frames; the caller of `Switch.serve` owns it.
        egress: checks the frames that are to leave through the port; None lets all pass.
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
    egress: FrameFilter | None
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
        if self.egress is not None:
            frames = list(self._filtered(self.egress, frames))
        if not self.writer_wakeup.is_set():
            taken = self.endpoint.try_send(frames)
            self._count_outbound(frames[:taken])
            frames = frames[taken:]
            if not frames:
                return
        self.queue.push(frames, now)
        self.writer_wakeup.set()

    def _filtered(self, egress: FrameFilter, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            reason = egress.check(frame)
            if reason is None:
                yield frame
            else:
                self.counters.outbound.drops[reason] += 1

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

    Attributes:
        table: the MAC table: which address is behind which port.
    """

    def __init__(self, *, age: float = AGE_S, limit: int = ENTRIES_MAX) -> None:
        self.table: MacTable[Port] = MacTable(age, limit)
        self._ports: dict[Port, None] = {}

    @property
    def ports(self) -> list[Port]:
        """The current ports, in the order in which they were added."""
        return list(self._ports)

    async def serve(
        self,
        endpoint: Endpoint,
        *,
        egress: FrameFilter | None = None,
        pinned: Iterable[bytes] = (),
    ) -> None:
        """Serve an endpoint as a port, until its owner closes it, it is gone, or this is cancelled.

        The caller owns the endpoint; it is not closed here.  At the end, the entries of the port
        leave the MAC table.  It returns when the endpoint was closed, before the call or during it.

        Args:
            endpoint: the source and sink of the port's frames.
            egress: checks every frame that is to leave through the port.
            pinned: MAC addresses that belong to this port; frames with these sources are dropped
                on all other ports.

        Raises:
            EndpointGone: the endpoint no longer exists.
        """
        port = Port(endpoint.name, endpoint, egress)
        for mac in pinned:
            self.table.pin(mac, port)
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
        router = _BatchRouter(self.table, port, now)
        routes, find = router.routes, router.find
        for frame in frames:
            route = routes.get(frame[:ROUTE_KEY_BYTES])
            for batch in find(frame) if route is None else route:
                batch.append(frame)
        copies = 0
        for other, batch, cost in router.shares(self._ports):
            if copies >= COPIES_PER_TURN:
                await trio.lowlevel.checkpoint()
                copies, now = 0, trio.current_time()
                if other not in self._ports:
                    continue
            copies += cost
            other.forward(batch, now)


class _BatchRouter:
    """Finds the destination ports of the frames of one batch.

    Most frames of a batch have the same header as an earlier one, and the same destination ports.
    So the table is asked, and learns the source, once for each header.  The cached routes are
    dropped when the table has learned something that may change them.

    All flooded frames are in one list, which most ports share.  Only a port that gets other frames
    as well has a list of its own, with the flooded frames in their places.

    Attributes:
        routes: a cache: for the leading bytes of a frame, the lists that the frame belongs to.
    """

    __slots__ = ("_batches", "_flood", "_flooded", "_ingress", "_now", "_table", "routes")

    def __init__(self, table: MacTable[Port], port: Port, now: float) -> None:
        self._table = table
        self._ingress = port
        self._now = now
        self._batches: dict[Port, list[Frame]] = {}
        self._flooded: list[Frame] = []
        # The lists of a flooded frame.
        self._flood = [self._flooded]
        self.routes: dict[Frame, list[list[Frame]]] = {}

    def find(self, frame: Frame) -> list[list[Frame]]:
        """Return the lists that a frame belongs to; count the frame if it is dropped."""
        header = addresses(frame)
        drops = self._ingress.counters.inbound.drops
        if header is None:
            drops[DropReason.RUNT] += 1
            return []
        vlan, destination, source = header
        table, now = self._table, self._now
        if table.lookup(vlan, source, now) is not self._ingress:
            self.routes.clear()
        if not table.learn(vlan, source, self._ingress, now):
            drops[DropReason.SOURCE_NOT_ALLOWED] += 1
            return []
        known = None if is_multicast(destination) else table.lookup(vlan, destination, now)
        if known is None:
            route = self._flood
        elif known is self._ingress:
            route = []
        else:
            route = [self._batch_of(known)]
        self.routes[frame[:ROUTE_KEY_BYTES]] = route
        return route

    def _batch_of(self, port: Port) -> list[Frame]:
        """Return the list of a port that gets more than the flooded frames."""
        batch = self._batches.get(port)
        if batch is None:
            batch = self._batches[port] = self._flooded.copy()
            self._flood.append(batch)
        return batch

    def shares(self, ports: Iterable[Port]) -> Iterator[tuple[Port, list[Frame], int]]:
        """Yield each destination port with its frames, and what that counts as, in copies.

        Args:
            ports: all ports.  They may change between two steps.
        """
        for port, batch in self._batches.items():
            for part, cost in _Share(batch).parts_for(port):
                yield port, part, cost
        if self._flooded:
            others = set(self._batches)
            others.add(self._ingress)
            share = _Share(self._flooded)
            for port in tuple(ports):
                if port not in others:
                    for part, cost in share.parts_for(port):
                        yield port, part, cost


class _Share:
    """The frames of a batch for one port, or for many, and what they count as, in copies."""

    __slots__ = ("_batch", "_sent", "_whole")

    def __init__(self, batch: list[Frame]) -> None:
        self._batch = batch
        self._whole = CALL_COPIES + sum(map(len, batch)) // COPY_BYTES
        self._sent = [(batch, self._whole + len(batch) // SENT_PER_COPY)]

    def parts_for(self, port: Port) -> list[tuple[list[Frame], int]]:
        """Return the parts in which a port gets the frames, each with what it counts as."""
        batch = self._batch
        if port.stalled:
            return [(batch, 1)]
        if not port.writer_wakeup.is_set():
            return self._sent
        starts = range(0, len(batch), COPIES_PER_TURN)
        parts = (batch[start : start + COPIES_PER_TURN] for start in starts)
        return [(part, self._whole + len(part)) for part in parts]
