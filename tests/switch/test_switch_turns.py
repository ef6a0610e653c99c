"""Turns of the switch: how many copies one makes, and who gets the next.  Counted, not timed."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
import trio.testing

from tests.support.links import running
from tests.support.packets import BROADCAST, station_frame, station_mac
from vknet import EndpointGone, MemoryEndpoint, SeqpacketEndpoint, Switch, memory_endpoint_pair
from vknet.counters import DropReason
from vknet.endpoints import seqpacket
from vknet.endpoints.mmsg import send_messages
from vknet.packet.ethernet import BATCH_FRAMES
from vknet.qdisc.fq_codel import FlowQueue
from vknet.switch.routing import COPIES_PER_TURN, SENT_PER_COPY
from vknet.switch.switch import QUEUE_FRAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.framing import Frame

LONG_FRAME_BYTES: Final = 60_000

# The most copies of one turn, all taken at once: up to the limit, and then one batch more.
TURN_MAX: Final = COPIES_PER_TURN * SENT_PER_COPY + BATCH_FRAMES


class Copies(trio.abc.Instrument):
    """The copies that a switch makes for `Recording` endpoints.

    Attributes:
        total: since the beginning.
        largest_turn: the most within one step of one task.
        total_bytes, largest_turn_bytes: the same, in bytes.
    """

    def __init__(self) -> None:
        self.total = self.largest_turn = self.total_bytes = self.largest_turn_bytes = 0
        self._before = self._before_bytes = 0

    def count(self, frames: Sequence[Frame]) -> None:
        self.total += len(frames)
        self.total_bytes += sum(map(len, frames))

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self._before, self._before_bytes = self.total, self.total_bytes

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self.largest_turn = max(self.largest_turn, self.total - self._before)
        self.largest_turn_bytes = max(
            self.largest_turn_bytes, self.total_bytes - self._before_bytes
        )


class Recording(MemoryEndpoint):
    """An endpoint that takes all frames at once, and counts them.

    Attributes:
        copies: where it counts.
        taken: the frames, each with the total of copies before it.
        stalled: it has no room: set by the test.
        has_room: set by the test when there is room again.
    """

    copies: Copies
    taken: list[tuple[int, Frame]]
    stalled = False
    has_room: trio.Event

    def try_send(self, frames: Sequence[Frame]) -> int:
        if self.stalled:
            return 0
        self.taken += [(self.copies.total, frame) for frame in frames]
        self.copies.count(frames)
        return len(frames)

    async def send(self, frames: Sequence[Frame]) -> None:
        await trio.lowlevel.checkpoint()
        if self.try_send(frames) == 0:
            self.send_drops[DropReason.ENDPOINT_FULL] += len(frames)

    @property
    def is_stalled(self) -> bool:
        return self.stalled

    async def wait_sendable(self) -> None:
        await self.has_room.wait()

    def frames(self) -> list[Frame]:
        return [frame for _, frame in self.taken]


class Ports:
    """A switch with recording endpoints as ports.

    Attributes:
        switch: the switch.
        plugs: the far ends.
        endpoints: the ports' endpoints.
        copies: what the switch has copied.
    """

    def __init__(self, count: int) -> None:
        self.switch = Switch()
        self.copies = Copies()
        self.plugs: list[MemoryEndpoint] = []
        self.endpoints: list[Recording] = []
        for number in range(count):
            plug, inner = memory_endpoint_pair((f"plug{number}", f"port{number}"), capacity=10_000)
            endpoint = Recording(inner.name, inner._inbox, inner._outbox, None)
            endpoint.copies = self.copies
            endpoint.taken = []
            endpoint.has_room = trio.Event()
            self.plugs.append(plug)
            self.endpoints.append(endpoint)

    async def serve(self, nursery: trio.Nursery) -> None:
        for endpoint in self.endpoints:
            nursery.start_soon(self.switch.serve, endpoint)
        await trio.testing.wait_all_tasks_blocked()


def broadcasts(count: int, *, sources: int = 1, size: int = 46) -> list[Frame]:
    return [
        station_frame(BROADCAST, station_mac(1000 + n % sources), payload=bytes(size))
        for n in range(count)
    ]


@pytest.mark.parametrize("sources", [1, 200])
@pytest.mark.parametrize("count", [3, 40, 300])
async def test_turn_is_bounded_in_copies_whatever_the_number_of_ports(
    count: int, sources: int
) -> None:
    ports = Ports(count)
    async with running() as nursery:
        await ports.serve(nursery)
        trio.lowlevel.add_instrument(ports.copies)
        sent = broadcasts(BATCH_FRAMES, sources=sources)
        await ports.plugs[0].send(sent)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(ports.copies)
        assert ports.copies.total == BATCH_FRAMES * (count - 1)
        assert ports.copies.largest_turn <= TURN_MAX
        assert all(endpoint.frames() == sent for endpoint in ports.endpoints[1:])


async def test_turn_is_bounded_in_bytes() -> None:
    ports = Ports(300)
    async with running() as nursery:
        await ports.serve(nursery)
        trio.lowlevel.add_instrument(ports.copies)
        await ports.plugs[0].send(broadcasts(1, size=LONG_FRAME_BYTES))
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(ports.copies)
        assert ports.copies.total == 299
        assert ports.copies.largest_turn_bytes < 1024 * 1024


async def test_turn_is_bounded_in_copies_that_are_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = Ports(20)
    full = ports.endpoints[1:]
    waiting = trio.Event()

    async def wait(*_: object) -> None:
        await waiting.wait()

    pushed: list[int] = []
    push = FlowQueue.push

    def counted(self: FlowQueue[Frame], items: Sequence[Frame], now: float) -> None:
        pushed.append(len(items))
        ports.copies.count(items)
        push(self, items, now)

    async with running() as nursery:
        await ports.serve(nursery)
        for endpoint in full:
            endpoint.stalled = True
            monkeypatch.setattr(endpoint, "send", wait)
        # The first frame goes to the writer, which waits for the endpoint.
        await ports.plugs[0].send(broadcasts(1))
        await trio.testing.wait_all_tasks_blocked()
        monkeypatch.setattr(FlowQueue, "push", counted)
        trio.lowlevel.add_instrument(ports.copies)
        await ports.plugs[0].send(broadcasts(2 * QUEUE_FRAMES))
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(ports.copies)
        assert sum(pushed) == 2 * QUEUE_FRAMES * len(full)
        assert max(pushed) <= COPIES_PER_TURN
        assert ports.copies.largest_turn <= 2 * COPIES_PER_TURN


async def test_unicast_passes_a_flood_after_one_turn_of_the_flooder() -> None:
    ports = Ports(100)
    async with running() as nursery:
        await ports.serve(nursery)
        await ports.plugs[1].send([station_frame(BROADCAST, station_mac(1))])
        await trio.testing.wait_all_tasks_blocked()
        before = ports.copies.total
        ports.plugs[0].send_nowait(broadcasts(10 * BATCH_FRAMES))
        ping = station_frame(station_mac(1), station_mac(2))
        ports.plugs[2].send_nowait([ping])
        await trio.testing.wait_all_tasks_blocked()
        (passed,) = (total - before for total, frame in ports.endpoints[1].taken if frame == ping)
        assert passed <= TURN_MAX
        assert ports.copies.total - before == 10 * BATCH_FRAMES * 99 + 1


async def test_ports_that_flood_take_turns() -> None:
    ports = Ports(50)
    async with running() as nursery:
        await ports.serve(nursery)
        flooders = range(10)
        for number in flooders:
            ports.plugs[number].send_nowait(
                [station_frame(BROADCAST, station_mac(number))] * BATCH_FRAMES
            )
        await trio.testing.wait_all_tasks_blocked()
        everywhere = [total for e in ports.endpoints for total, _ in e.taken]
        assert len(everywhere) == 10 * BATCH_FRAMES * 49
        firsts = [
            min(t for e in ports.endpoints for t, f in e.taken if f[6:12] == station_mac(number))
            for number in flooders
        ]
        # Each one's first copy comes before any other's second turn.
        assert max(firsts) <= len(flooders) * (TURN_MAX)


async def test_port_with_unicast_frames_gets_flooded_ones_in_their_order() -> None:
    ports = Ports(4)
    async with running() as nursery:
        await ports.serve(nursery)
        await ports.plugs[1].send([station_frame(BROADCAST, station_mac(1))])
        await ports.plugs[2].send([station_frame(BROADCAST, station_mac(2))])
        await trio.testing.wait_all_tasks_blocked()
        for endpoint in ports.endpoints:
            endpoint.taken.clear()
        to = {0: BROADCAST, 1: station_mac(1), 2: station_mac(2)}
        pattern = [0, 1, 0, 2, 1, 0, 2, 0]
        sent = [
            station_frame(to[who], station_mac(9), payload=bytes([n]))
            for n, who in enumerate(pattern)
        ]
        await ports.plugs[0].send(sent)
        await trio.testing.wait_all_tasks_blocked()
        for number in (1, 2, 3):
            expected = [f for f, who in zip(sent, pattern, strict=True) if who in (0, number)]
            assert ports.endpoints[number].frames() == expected
        assert ports.endpoints[0].frames() == []


async def test_port_that_leaves_during_a_flood_gets_no_more_of_it() -> None:
    ports = Ports(60)
    scope = trio.CancelScope()

    async def serve_last() -> None:
        with scope:
            await ports.switch.serve(ports.endpoints[-1])

    last = ports.endpoints[-1]
    async with running() as nursery:
        for endpoint in ports.endpoints[:-1]:
            nursery.start_soon(ports.switch.serve, endpoint)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(serve_last)
        await trio.testing.wait_all_tasks_blocked()
        ports.plugs[0].send_nowait(broadcasts(BATCH_FRAMES))
        while not ports.copies.total:
            await trio.lowlevel.checkpoint()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        got = len(last.frames())
        assert got < BATCH_FRAMES
        assert ports.copies.total == BATCH_FRAMES * 58 + got


async def test_stalled_port_is_skipped_until_it_has_room() -> None:
    ports = Ports(3)
    deaf = ports.endpoints[2]
    async with running() as nursery:
        await ports.serve(nursery)
        (port,) = (port for port in ports.switch.ports if port.endpoint is deaf)
        deaf.stalled = True
        await ports.plugs[0].send(broadcasts(100))
        await trio.testing.wait_all_tasks_blocked()
        assert port.stalled
        # No further frame is offered to it, or queued.
        deaf.stalled = False
        await ports.plugs[0].send(broadcasts(500))
        await trio.testing.wait_all_tasks_blocked()
        assert deaf.frames() == []
        assert not port.queue
        assert port.snapshot().outbound.drops == {DropReason.ENDPOINT_FULL: 600}
        assert port.snapshot().outbound.frames == 100
        deaf.has_room.set()
        await trio.testing.wait_all_tasks_blocked()
        assert not port.stalled
        await ports.plugs[0].send(broadcasts(7))
        await trio.testing.wait_all_tasks_blocked()
        assert len(deaf.frames()) == 7


async def test_client_that_does_not_read_costs_no_system_call_until_it_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seqpacket, "SEND_TIMEOUT_S", 0.01)
    calls: list[int] = []

    def counted(fd: int, frames: Sequence[Frame]) -> int:
        calls.append(fd)
        return send_messages(fd, frames)

    monkeypatch.setattr(seqpacket, "send_messages", counted)
    switch = Switch()
    plug, inner = memory_endpoint_pair(capacity=10_000)
    deaf, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with deaf:
        deaf.setblocking(False)
        async with running() as nursery, SeqpacketEndpoint(other, "deaf") as endpoint:
            nursery.start_soon(switch.serve, inner)
            nursery.start_soon(switch.serve, endpoint)
            await trio.testing.wait_all_tasks_blocked()
            (port,) = (port for port in switch.ports if port.endpoint is endpoint)
            with trio.fail_after(60):
                while not port.stalled:
                    await plug.send(broadcasts(BATCH_FRAMES))
                    await trio.sleep(0.001)
            calls.clear()
            await plug.send(broadcasts(5000))
            await trio.testing.wait_all_tasks_blocked()
            assert calls == []
            while port.stalled:
                with suppress(BlockingIOError):
                    deaf.recv(2000)
                await trio.lowlevel.checkpoint()
            last = station_frame(BROADCAST, station_mac(1), b"the last one")
            await plug.send([last])
            with trio.fail_after(60):
                while (await _receive(deaf)) != last:
                    pass


async def _receive(sock: socket.socket) -> bytes:
    await trio.lowlevel.wait_readable(sock)
    return sock.recv(2000)


# --- an endpoint that its owner closes ------------------------------------------------------------


def socket_endpoint() -> tuple[SeqpacketEndpoint, Any]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return SeqpacketEndpoint(ours, "client"), theirs


def memory_endpoint() -> tuple[MemoryEndpoint, Any]:
    return memory_endpoint_pair()


@pytest.mark.parametrize("new", [socket_endpoint, memory_endpoint])
async def test_serving_a_closed_endpoint_ends_quietly(new: Any) -> None:
    switch = Switch()
    endpoint, theirs = new()
    await endpoint.aclose()
    with trio.fail_after(60):
        await switch.serve(endpoint)
    assert switch.ports == []
    if isinstance(theirs, socket.socket):
        theirs.close()


@pytest.mark.parametrize("new", [socket_endpoint, memory_endpoint])
async def test_endpoint_that_its_owner_closes_ends_its_port_quietly(new: Any) -> None:
    switch = Switch()
    plug, inner = memory_endpoint_pair(capacity=10_000)
    endpoint, theirs = new()
    ended = trio.Event()

    async def serve() -> None:
        await switch.serve(endpoint)
        ended.set()

    async with running() as nursery:
        nursery.start_soon(switch.serve, inner)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        # In the same turn of the event loop, frames come for it.
        plug.send_nowait(broadcasts(100))
        nursery.start_soon(endpoint.aclose)
        with trio.fail_after(60):
            await ended.wait()
        assert switch.ports == [port for port in switch.ports if port.endpoint is inner]
        assert len(switch.ports) == 1
    if isinstance(theirs, socket.socket):
        theirs.close()


async def test_endpoint_whose_other_end_closes_still_raises() -> None:
    switch = Switch()
    endpoint, theirs = memory_endpoint()
    async with running() as nursery:
        nursery.start_soon(theirs.aclose)
        with pytest.raises(EndpointGone):
            await switch.serve(endpoint)
