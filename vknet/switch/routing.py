"""Which ports the frames of a batch leave through, and what the MAC table learns from them.  Pure.

With a guard (secure mode), a frame is checked before anything is learned from it:

    from a client     its source must not be the address of a station outside; if it is to leave
                      through the uplink, it must pass the filter
    from the uplink   the guard learns from it; the echo of a client's frame teaches nothing
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vknet.counters import DropReason
from vknet.packet.ethernet import ETHERNET_HEADER_SIZE, TAG_SIZE, addresses, is_multicast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vknet.packet.ethernet import Frame
    from vknet.switch.guard import Guard
    from vknet.switch.switch import Port
    from vknet.switch.table import MacTable

__all__ = ["COPIES_PER_TURN", "ROUTE_KEY_BYTES", "SENT_PER_COPY", "BatchRouter"]

ROUTE_KEY_BYTES: Final = ETHERNET_HEADER_SIZE + TAG_SIZE - 2
"""The destination ports of a frame depend on this number of leading bytes only: the addresses, and
the VLAN tag.  In an untagged frame the last two are payload.  They are the first two bytes of IP or
ARP, which hardly vary, so that they seldom cost a look-up of their own."""

COPIES_PER_TURN: Final = 64
"""A reader lets other tasks run after this number of queued copies, and no call for one port queues
more.  Queueing a copy takes up to 20 us (a full queue of 1024 flows), so a turn takes less than
5 ms."""

SENT_PER_COPY: Final = 4
"""A copy that an endpoint takes at once is cheaper: this many count as one."""

# What else counts as copies: the call for one port, and each further 4 KiB of a batch.
CALL_COPIES: Final = 8
COPY_BYTES: Final = 4096


class BatchRouter:
    """Finds the destination ports of the frames of one batch.

    Most frames of a batch have the same header as an earlier one, and the same destination ports.
    So the table is asked, and learns the source, once for each header.  The cached routes are
    dropped when the table has learned something that may change them.

    All flooded frames are in one list, which most ports share.  Only a port that gets other frames
    as well has a list of its own, with the flooded frames in their places.  A guarded uplink always
    has one, because the guard may drop some.

    Args:
        table: the MAC table.
        guard: that of the switch; None without one.
        port: where the batch came in.
        uplink: the port that leads outside; None if there is none.
        now: the time.

    Attributes:
        routes: a cache: for the leading bytes of a frame, what is to be called with it.
    """

    __slots__ = (
        *("_batches", "_flood", "_flooded", "_guard", "_guarded", "_ingress", "_now", "_outward"),
        *("_table", "routes"),
    )

    def __init__(
        self,
        table: MacTable[Port],
        guard: Guard | None,
        port: Port,
        uplink: Port | None,
        now: float,
    ) -> None:
        self._table = table
        self._guard = guard
        self._ingress = port
        # The uplink, if frames on their way to it are checked, and the frames that may leave.
        self._guarded = None if guard is None or uplink is port else uplink
        self._outward: list[Frame] = []
        self._now = now
        self._batches: dict[Port, list[Frame]] = {}
        self._flooded: list[Frame] = []
        # The lists of a flooded frame.
        self._flood = [self._flooded]
        self.routes: dict[Frame, list[Callable[[Frame], object]]] = {}

    def first(self, frame: Frame) -> None:
        """Route a frame that has no cached route; count it if it is dropped."""
        header = addresses(frame)
        drops = self._ingress.counters.inbound.drops
        if header is None:
            drops[DropReason.RUNT] += 1
            return
        vlan, destination, source = header
        table, guard, now = self._table, self._guard, self._now
        if not table.admits(source, self._ingress):
            drops[DropReason.SOURCE_NOT_ALLOWED] += 1
            return
        holder = table.lookup(vlan, source, now)
        route: list[Callable[[Frame], object]] = []
        teaches = True
        if guard is not None:
            if not self._ingress.is_uplink:
                reason = guard.refuse_source(source)
                if reason is not None:
                    drops[reason] += 1
                    return
            else:
                is_clients = holder is not None and holder is not self._ingress
                teaches = not (holder is not None and guard.is_echo(holder, frame, now))
                if teaches:
                    guard.see_source(source, now, is_clients=is_clients)
                    learn = guard.learner(frame, now)
                    if learn is not None:
                        learn(frame)
                        route.append(learn)
        if destination == source:
            # It is behind this port, although the table may not have learned it yet.
            known: Port | None = self._ingress
        else:
            known = None if is_multicast(destination) else table.lookup(vlan, destination, now)
        if known is None:
            self._add_flooded(frame)
            route.append(self._add_flooded)
        if self._guarded is not None and (known is None or known is self._guarded):
            add = self._checked(is_group=is_multicast(destination))
            teaches = add(frame)
            route.append(add)
        elif not (known is None or known is self._ingress or self._is_unguarded(known)):
            append = self._batch_of(known).append
            append(frame)
            route.append(append)
        if teaches:
            if holder is not self._ingress:
                self.routes.clear()
            table.learn(vlan, source, self._ingress, now)
            self.routes[frame[:ROUTE_KEY_BYTES]] = route

    def _is_unguarded(self, port: Port) -> bool:
        """Whether a port needs checked frames, and is not the one that they are checked for.

        It became the uplink after this batch had arrived.
        """
        return self._guard is not None and port.is_uplink and port is not self._guarded

    def _add_flooded(self, frame: Frame) -> None:
        for batch in self._flood:
            batch.append(frame)

    def _checked(self, *, is_group: bool) -> Callable[[Frame], bool]:
        """Return a function that adds a frame to those that leave through the guarded uplink.

        Args:
            is_group: whether the frames are for a group.

        Returns:
            The function; it returns whether the frame may leave.
        """
        guard, uplink, now = self._guard, self._guarded, self._now
        ingress = self._ingress
        if guard is None or uplink is None:
            raise AssertionError("only a guard checks frames")
        check, append, drops = guard.check, self._outward.append, uplink.counters.outbound.drops

        def add(frame: Frame) -> bool:
            reason = check(frame)
            if reason is not None:
                drops[reason] += 1
                return False
            append(frame)
            if is_group:
                guard.note_sent(ingress, frame, now)
            return True

        return add

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
            ports: all ports.  They may change between two steps; an uplink that was added since the
                batch arrived gets nothing from a guarded switch.
        """
        if self._guarded is not None and self._outward:
            for part, cost in _Share(self._outward).parts_for(self._guarded):
                yield self._guarded, part, cost
        for port, batch in self._batches.items():
            for part, cost in _Share(batch).parts_for(port):
                yield port, part, cost
        if self._flooded:
            others = {self._ingress, self._guarded, *self._batches}
            share = _Share(self._flooded)
            for port in tuple(ports):
                if port not in others and not self._is_unguarded(port):
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
