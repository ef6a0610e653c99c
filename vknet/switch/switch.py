"""The switch itself: endpoints for ports, a MAC table between them.

    endpoint of port A -> _read -> _sort -> a batch for each port it concerns
    a batch for port B -> endpoint of port B, as much as it takes at once
                       -> queue of port B -> _write -> endpoint of port B

A port has two tasks.  The reader drains its endpoint and sorts a whole batch without waiting for
anybody; each port concerned gets its share of the batch in one hand-over.  As long as a port's
endpoint takes all it is given, that is the end of it, and saves waking a task.  What it does not
take is queued, and so is all that comes later, until the writer has sent what was queued: the
frames of a flow keep their order.

Who drops what: a port's queue is a flow queue (vknet.qdisc.fq_codel), bounded, which marks or drops
    what
waits too long, and when it is full drops from its fattest flow.  So a client that reads slowly, or
not at all, loses its own frames and no one else's, and nothing it does or leaves undone holds up a
reader.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

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
from vknet.switch.table import AGE, LIMIT, MacTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vknet.endpoints.base import Endpoint
    from vknet.packet.ethernet import Frame

__all__ = ["Port", "Switch"]

# What a port may have waiting: a little more than a TAP does, and a burst of the largest frames.
QUEUE_FRAMES: Final = 1024
QUEUE_BYTES: Final = 1024 * 1024

# What decides where a frame goes is among its first bytes, those of a tagged one.  An untagged
# frame has two bytes of its payload there, which are as good as constant where speed counts: the
# first ones of IP, or of ARP.
ROUTED_BY: Final = ETHERNET_HEADER_SIZE + TAG_SIZE - 2


class FrameFilter(Protocol):
    """What may leave through a port."""

    def check(self, frame: Frame) -> DropReason | None:
        """Why this frame may not; None if it may."""


@dataclass(slots=True, eq=False)
class Port:
    """A port, as `Switch.serve` makes it.

    Attributes:
        name: of its endpoint.
        endpoint: borrowed.
        egress: looks at what is to leave through it; None lets everything.
        counters: inbound is what the port brought into the switch, outbound what left through it;
            each with its drops by reason, the endpoint's own apart (`snapshot` has them).
        waiting: what is to leave through it.
        arrived: not set while the writer waits for it, with nothing queued and nothing under way.
    """

    name: str
    endpoint: Endpoint
    egress: FrameFilter | None
    counters: Counters = field(default_factory=Counters)
    waiting: FlowQueue[Frame] = field(init=False)
    arrived: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self.waiting = FlowQueue(
            limit_bytes=QUEUE_BYTES,
            limit_frames=QUEUE_FRAMES,
            drops=self.counters.outbound.drops,
        )

    def queue(self, frames: list[Frame], now: float) -> None:
        """Have these leave through this port; behind what waits, if something does."""
        if self.egress is not None:
            frames = list(self._passing(self.egress, frames))
        if not self.arrived.is_set():
            taken = self.endpoint.try_send(frames)
            self.count_out(frames[:taken])
            frames = frames[taken:]
            if not frames:
                return
        self.waiting.push(frames, now)
        self.arrived.set()

    def _passing(self, egress: FrameFilter, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            refusal = egress.check(frame)
            if refusal is None:
                yield frame
            else:
                self.counters.outbound.drops[refusal] += 1

    def take(self, now: float) -> list[Frame]:
        """A batch of what waits, counted: it leaves through this port."""
        frames = self.waiting.pull(now, BATCH_BYTES)
        self.count_out(frames)
        self.counters.outbound.ecn_marks = self.waiting.ecn_marks
        return frames

    def count_out(self, frames: list[Frame]) -> None:
        """These leave through this port."""
        self.counters.outbound.frames += len(frames)
        self.counters.outbound.bytes += sum(map(len, frames))

    def snapshot(self) -> Counters:
        """The counters as they stand, the endpoint's own drops included."""
        total = Counters(self.counters.outbound.copy(), self.counters.inbound.copy())
        total.inbound.drops += self.endpoint.receive_drops
        total.outbound.drops += self.endpoint.send_drops
        return total


class Switch:
    """A learning, VLAN-aware Ethernet switch between any endpoints.

    Args:
        age: seconds after which an address that was not seen again is forgotten.
        limit: the most addresses it knows.

    Attributes:
        table: who is behind which port.
    """

    def __init__(self, *, age: float = AGE, limit: int = LIMIT) -> None:
        self.table: MacTable[Port] = MacTable(age, limit)
        self._ports: dict[Port, None] = {}

    @property
    def ports(self) -> list[Port]:
        """The ports in use, in the order they came."""
        return list(self._ports)

    async def serve(
        self,
        endpoint: Endpoint,
        *,
        egress: FrameFilter | None = None,
        pinned: Iterable[bytes] = (),
    ) -> NoReturn:
        """Make an endpoint a port until it has gone, or until this is cancelled.

        The endpoint is borrowed: it is not closed here.  When it ends, what the table knew of the
        port is forgotten.

        Args:
            endpoint: what is behind the port.
            egress: looks at every frame that is to leave through this port.
            pinned: MAC addresses that are this port's, and that no other may use.

        Raises:
            EndpointGone: what the endpoint stands for no longer exists.
        """
        port = Port(endpoint.name, endpoint, egress)
        for mac in pinned:
            self.table.pin(mac, port)
        self._ports[port] = None
        gone: list[BaseException] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, port)
                nursery.start_soon(self._write, port)
        except* EndpointGone as group:
            gone.extend(group.exceptions)
        finally:
            del self._ports[port]
            self.table.forget(port)
        raise gone[0]

    async def _read(self, port: Port) -> None:
        endpoint = port.endpoint
        while True:
            # Waited for even where there may be more: it is this loop's checkpoint as well, and
            # mostly a batch was all there was, so that to try first would fail.
            await endpoint.wait_receivable()
            try:
                frames = endpoint.receive_nowait()
            except trio.WouldBlock:
                continue
            self._sort(port, frames)

    async def _write(self, port: Port) -> None:
        while True:
            while not port.waiting:
                port.arrived = trio.Event()
                await port.arrived.wait()
            if frames := port.take(trio.current_time()):
                await port.endpoint.send(frames)

    def _sort(self, port: Port, frames: list[Frame]) -> None:
        """Hand a batch that came from a port to those it concerns."""
        inbound = port.counters.inbound
        inbound.frames += len(frames)
        inbound.bytes += sum(map(len, frames))
        now = trio.current_time()
        sorting = _Sorting(self.table, port, self._ports, now)
        routes, find = sorting.routes, sorting.find
        for frame in frames:
            found = routes.get(frame[:ROUTED_BY])
            for batch in find(frame) if found is None else found:
                batch.append(frame)
        for other, batch in sorting.batches.items():
            other.queue(batch, now)


class _Sorting:
    """Where the frames of one batch go.

    Most frames of a batch have the header of one before them, and go where that went.  So the table
    is asked, and told of the source, once for each header; and again after something was learned
    that may change the answers.

    Attributes:
        batches: what goes to each port.
        routes: for the beginnings of frames seen so far, those of the batches that they are for.
    """

    __slots__ = ("_from", "_now", "_ports", "_table", "batches", "routes")

    def __init__(
        self, table: MacTable[Port], port: Port, ports: Iterable[Port], now: float
    ) -> None:
        self._table = table
        self._from = port
        self._ports = ports
        self._now = now
        self.batches: dict[Port, list[Frame]] = {}
        self.routes: dict[Frame, list[list[Frame]]] = {}

    def find(self, frame: Frame) -> list[list[Frame]]:
        """The batches that this frame is for; it is counted if it is dropped."""
        parts = addresses(frame)
        drops = self._from.counters.inbound.drops
        if parts is None:
            drops[DropReason.RUNT] += 1
            return []
        vlan, destination, source = parts
        table, now = self._table, self._now
        if table.lookup(vlan, source, now) is not self._from:
            self.routes.clear()
        if not table.learn(vlan, source, self._from, now):
            drops[DropReason.SOURCE_NOT_ALLOWED] += 1
            return []
        known = None if is_multicast(destination) else table.lookup(vlan, destination, now)
        route = [
            self.batches.setdefault(other, [])
            for other in (self._ports if known is None else (known,))
            if other is not self._from
        ]
        self.routes[frame[:ROUTED_BY]] = route
        return route
