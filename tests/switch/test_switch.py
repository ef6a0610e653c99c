"""The switch with memory endpoints as ports, on virtual time."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.links import running
from tests.support.packets import BROADCAST, station_frame, station_mac
from vknet import EndpointGone, MemoryEndpoint, memory_endpoint_pair
from vknet.counters import DropReason
from vknet.switch.filter import SourceFilter
from vknet.switch.guard import Guard
from vknet.switch.switch import QUEUE_BYTES, QUEUE_FRAMES, Port, Switch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from trio.testing import MockClock

    from vknet.framing import Frame


@asynccontextmanager
async def switch_with(count: int) -> AsyncIterator[tuple[Switch, list[MemoryEndpoint]]]:
    """A switch with memory endpoints as ports, and the far ends of the ports."""
    switch = Switch()
    plugs = []
    async with running() as nursery:
        for number in range(count):
            plug, inner = memory_endpoint_pair((f"plug{number}", f"port{number}"))
            nursery.start_soon(switch.serve, inner)
            await trio.testing.wait_all_tasks_blocked()
            plugs.append(plug)
        yield switch, plugs


async def received(plug: MemoryEndpoint) -> list[Frame]:
    """All frames that have come to a far end once all tasks wait."""
    await trio.testing.wait_all_tasks_blocked()
    frames: list[Frame] = []
    try:
        while True:
            frames += plug.receive_nowait()
    except trio.WouldBlock:
        return frames


async def test_only_frames_for_unknown_destinations_are_flooded() -> None:
    async with switch_with(3) as (switch, (a, b, c)):
        question = station_frame(BROADCAST, station_mac(1))
        await a.send([question])
        assert [await received(p) for p in (a, b, c)] == [[], [question], [question]]
        answer = station_frame(station_mac(1), station_mac(2))
        await b.send([answer])
        assert [await received(p) for p in (a, b, c)] == [[answer], [], []]
        more = [
            station_frame(station_mac(2), station_mac(1), payload=bytes([n])) for n in range(20)
        ]
        unknown = station_frame(station_mac(9), station_mac(1))
        await a.send([*more, unknown])
        assert [await received(p) for p in (a, b, c)] == [
            [],
            [*more, unknown],
            [unknown],
        ]
        assert len(switch.table) == 2


async def test_frame_for_its_own_port_is_dropped() -> None:
    async with switch_with(2) as (_, (a, b)):
        await a.send(
            [station_frame(BROADCAST, station_mac(1)), station_frame(BROADCAST, station_mac(2))]
        )
        await received(b)
        await a.send([station_frame(station_mac(2), station_mac(1))])
        assert await received(b) == []
        assert await received(a) == []


async def test_address_may_be_behind_two_ports_on_two_vlans() -> None:
    async with switch_with(3) as (_, (a, b, c)):
        await a.send([station_frame(BROADCAST, station_mac(1), vlan=5)])
        await b.send([station_frame(BROADCAST, station_mac(1), vlan=6)])
        for plug in (a, b, c):
            await received(plug)
        five, six = (
            station_frame(station_mac(1), station_mac(3), vlan=5),
            station_frame(station_mac(1), station_mac(3), vlan=6),
        )
        await c.send([five, six])
        assert await received(a) == [five]
        assert await received(b) == [six]


async def test_frames_follow_the_client_that_used_the_address_last() -> None:
    async with switch_with(3) as (switch, (a, b, c)):
        for plug in (a, b, a):
            await plug.send([station_frame(BROADCAST, station_mac(1))])
            await trio.testing.wait_all_tasks_blocked()
            for each in (a, b, c):
                await received(each)
            await c.send([station_frame(station_mac(1), station_mac(3))])
            assert await received(plug) == [station_frame(station_mac(1), station_mac(3))]
        assert switch.table.moves == 2


async def test_frame_for_an_aged_address_is_flooded(autojump_clock: MockClock) -> None:
    async with switch_with(3) as (_, (a, b, c)):
        await a.send([station_frame(BROADCAST, station_mac(1))])
        for plug in (b, c):
            await received(plug)
        await trio.sleep(301)
        await b.send([station_frame(station_mac(1), station_mac(2))])
        assert await received(c) == [station_frame(station_mac(1), station_mac(2))]


async def test_addresses_of_a_gone_client_are_forgotten_and_other_ports_stay() -> None:
    switch = Switch()
    dying, inner = memory_endpoint_pair()
    a, inner_a = memory_endpoint_pair()
    b, inner_b = memory_endpoint_pair()

    async def until_gone() -> None:
        with pytest.raises(EndpointGone):
            await switch.serve(inner)

    async with running(until_gone, partial(switch.serve, inner_a), partial(switch.serve, inner_b)):
        await trio.testing.wait_all_tasks_blocked()
        await dying.send([station_frame(BROADCAST, station_mac(1))])
        await received(a)
        await received(b)
        assert len(switch.table) == 1
        await dying.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert len(switch.table) == 0
        assert len(switch.ports) == 2
        await a.send([station_frame(station_mac(1), station_mac(2))])
        assert await received(b) == [station_frame(station_mac(1), station_mac(2))]
    assert switch.ports == []


class Stopped(MemoryEndpoint):
    """The endpoint of a client that does not read: sending to it never returns."""

    async def send(self, frames: Sequence[Frame]) -> None:
        await trio.sleep_forever()


async def test_stopped_client_loses_only_its_own_frames_and_delays_no_other_client() -> None:
    switch = Switch()
    a, inner_a = memory_endpoint_pair(capacity=10_000)
    b, inner_b = memory_endpoint_pair(capacity=10_000)
    _, quiet = memory_endpoint_pair()
    stopped = Stopped("stopped", quiet._inbox, quiet._outbox, None)
    async with running() as nursery:
        for endpoint in (inner_a, inner_b, stopped):
            nursery.start_soon(switch.serve, endpoint)
            await trio.testing.wait_all_tasks_blocked()
        await a.send([station_frame(BROADCAST, station_mac(1))])
        await trio.testing.wait_all_tasks_blocked()
        sent = [
            station_frame(BROADCAST, station_mac(1), payload=n.to_bytes(4, "big"))
            for n in range(3000)
        ]
        await a.send(sent)
        assert len(await received(b)) == 3001
        (port,) = (p for p in switch.ports if p.name == "stopped")
        # The oldest frames were dropped, and the newest are queued.
        assert QUEUE_FRAMES - 20 < len(port.queue) <= QUEUE_FRAMES
        assert port.counters.outbound.drops == {DropReason.QUEUE_FULL: 3000 - len(port.queue)}
        kept = sent[-len(port.queue) :]
        assert port.queue.pull(trio.current_time(), 10**9) == kept


def test_queue_is_bounded_in_bytes() -> None:
    _, endpoint = memory_endpoint_pair()
    port = Port("p", endpoint)
    port.forward([bytes(60_000)] * 30, 0.0)
    assert len(port.queue) == 17
    assert port.queue.backlog_bytes == 17 * 60_000 <= QUEUE_BYTES


def test_sparse_flow_overtakes_a_bulk_flow_in_the_queue_of_a_port() -> None:
    _, endpoint = memory_endpoint_pair()
    port = Port("p", endpoint)
    bulk: list[Frame] = [station_frame(station_mac(2), station_mac(1), payload=bytes(1500))] * 200
    ping = station_frame(station_mac(2), station_mac(3))
    port.forward(bulk, 0.0)
    first = port.dequeue(0.0)
    assert first == bulk[: len(first)]
    assert len(first) < 100
    port.forward([ping], 0.001)
    assert ping in port.dequeue(0.001)[:2]
    assert port.counters.outbound.frames > len(first) + 1


async def test_runts_and_group_sources_are_dropped_and_counted() -> None:
    async with switch_with(2) as (switch, (a, b)):
        await a.send(
            [
                b"short",
                station_frame(BROADCAST, BROADCAST),
                station_frame(BROADCAST, station_mac(1)),
            ]
        )
        assert await received(b) == [station_frame(BROADCAST, station_mac(1))]
        counters = switch.ports[0].snapshot()
        assert counters.inbound.drops == {DropReason.RUNT: 1, DropReason.SOURCE_NOT_ALLOWED: 1}
        assert counters.inbound.frames == 3
        assert switch.ports[1].snapshot().outbound.frames == 1


async def test_frames_refused_by_the_filter_are_counted_on_the_tap() -> None:
    tap_mac = station_mac(0x99)
    guard = Guard(SourceFilter([IPv4Network("198.18.0.0/24")], tap_mac))
    switch = Switch(guard=guard)
    uplink, tap = memory_endpoint_pair(("uplink", "tap0"))
    client, inner = memory_endpoint_pair()
    other, inner_other = memory_endpoint_pair()
    switch.reserve([tap_mac])

    ports = (
        partial(switch.serve, tap, is_uplink=True),
        partial(switch.serve, inner),
        partial(switch.serve, inner_other),
    )
    async with running(*ports):
        await trio.testing.wait_all_tasks_blocked()
        # The first goes to clients, but secure mode does not let its EtherType out.  The second has
        # the MAC address of the TAP.
        await client.send(
            [station_frame(BROADCAST, station_mac(1)), station_frame(BROADCAST, tap_mac)]
        )
        assert await received(other) == [station_frame(BROADCAST, station_mac(1))]
        assert await received(uplink) == []
        port = next(p for p in switch.ports if p.name == "tap0")
        assert port.counters.outbound.drops == {DropReason.ETHERTYPE: 1}
        assert switch.table.forgeries == 1


# --- compared with a model of a bridge (802.1D) ---------------------------------------------------


def by_flow(frames: Iterable[Frame]) -> list[bytes]:
    """Sort frames by their addresses, stably: a port keeps the order within a flow only."""
    return sorted(map(bytes, frames), key=lambda one: one[:12])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.lists(
                st.tuples(st.integers(0, 5), st.integers(1, 5), st.sampled_from([0, 7])), max_size=6
            ),
        ),
        max_size=12,
    )
)
def test_every_frame_leaves_through_the_ports_that_a_bridge_would_choose(
    script: list[tuple[int, list[tuple[int, int, int]]]],
) -> None:
    async def play() -> None:
        known: dict[tuple[int, bytes], int] = {}
        expected: list[list[bytes]] = [[] for _ in range(4)]
        async with switch_with(4) as (_, plugs):
            for number, (sender, batch) in enumerate(script):
                frames = []
                for destination, source, vlan in batch:
                    to = BROADCAST if destination == 0 else station_mac(destination)
                    one = station_frame(to, station_mac(source), bytes([number]), vlan)
                    frames.append(one)
                    known[vlan, station_mac(source)] = sender
                    there = known.get((vlan, to))
                    for port in range(4) if there is None else (there,):
                        if port != sender:
                            expected[port].append(one)
                if frames:
                    await plugs[sender].send(frames)
                await trio.testing.wait_all_tasks_blocked()
            for plug, wanted in zip(plugs, expected, strict=True):
                assert by_flow(await received(plug)) == by_flow(wanted)

    trio.run(play)
