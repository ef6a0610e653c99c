"""The switch, with memory endpoints for ports and a virtual clock."""

from __future__ import annotations

from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from vknet import EndpointGone, MemoryEndpoint, memory_endpoint_pair
from vknet.counters import DropReason
from vknet.switch.filter import SourceFilter
from vknet.switch.switch import QUEUE_BYTES, QUEUE_FRAMES, Port, Switch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from trio.testing import MockClock

    from vknet.framing import Frame

EVERYBODY = b"\xff" * 6


def mac(number: int) -> bytes:
    return bytes((2, 0, 0, 0, 0, number))


def frame(destination: bytes, source: bytes, vlan: int = 0, payload: bytes = b"") -> bytes:
    tag = b"" if vlan == 0 else b"\x81\x00" + vlan.to_bytes(2, "big")
    return destination + source + tag + b"\x88\xb5" + payload.ljust(46, b".")


@asynccontextmanager
async def switch_with(count: int) -> AsyncIterator[tuple[Switch, list[MemoryEndpoint]]]:
    """A switch and what is plugged into its ports."""
    switch = Switch()
    plugs = []
    async with trio.open_nursery() as nursery:
        for number in range(count):
            plug, inner = memory_endpoint_pair((f"plug{number}", f"port{number}"))
            nursery.start_soon(switch.serve, inner)
            await trio.testing.wait_all_tasks_blocked()
            plugs.append(plug)
        yield switch, plugs
        nursery.cancel_scope.cancel()


async def got(plug: MemoryEndpoint) -> list[Frame]:
    """All that has arrived once everything has settled."""
    await trio.testing.wait_all_tasks_blocked()
    frames: list[Frame] = []
    try:
        while True:
            frames += plug.receive_nowait()
    except trio.WouldBlock:
        return frames


async def test_unknown_destinations_are_flooded_and_known_ones_are_not() -> None:
    async with switch_with(3) as (switch, (a, b, c)):
        question = frame(EVERYBODY, mac(1))
        await a.send([question])
        assert [await got(p) for p in (a, b, c)] == [[], [question], [question]]
        answer = frame(mac(1), mac(2))
        await b.send([answer])
        assert [await got(p) for p in (a, b, c)] == [[answer], [], []]
        more = [frame(mac(2), mac(1), payload=bytes([n])) for n in range(20)]
        unknown = frame(mac(9), mac(1))
        await a.send([*more, unknown])
        assert [await got(p) for p in (a, b, c)] == [
            [],
            [*more, unknown],
            [unknown],
        ]
        assert len(switch.table) == 2


async def test_a_frame_for_the_port_it_came_from_goes_nowhere() -> None:
    async with switch_with(2) as (_, (a, b)):
        await a.send([frame(EVERYBODY, mac(1)), frame(EVERYBODY, mac(2))])
        await got(b)
        await a.send([frame(mac(2), mac(1))])
        assert await got(b) == []
        assert await got(a) == []


async def test_one_address_may_be_in_two_places_on_two_vlans() -> None:
    async with switch_with(3) as (_, (a, b, c)):
        await a.send([frame(EVERYBODY, mac(1), vlan=5)])
        await b.send([frame(EVERYBODY, mac(1), vlan=6)])
        for plug in (a, b, c):
            await got(plug)
        five, six = frame(mac(1), mac(3), vlan=5), frame(mac(1), mac(3), vlan=6)
        await c.send([five, six])
        assert await got(a) == [five]
        assert await got(b) == [six]


async def test_two_clients_with_one_address_get_its_frames_in_turn() -> None:
    async with switch_with(3) as (switch, (a, b, c)):
        for plug in (a, b, a):
            await plug.send([frame(EVERYBODY, mac(1))])
            await trio.testing.wait_all_tasks_blocked()
            for each in (a, b, c):
                await got(each)
            await c.send([frame(mac(1), mac(3))])
            assert await got(plug) == [frame(mac(1), mac(3))]
        assert switch.table.moves == 2


async def test_what_was_not_seen_for_long_is_flooded_again(autojump_clock: MockClock) -> None:
    async with switch_with(3) as (_, (a, b, c)):
        await a.send([frame(EVERYBODY, mac(1))])
        for plug in (b, c):
            await got(plug)
        await trio.sleep(301)
        await b.send([frame(mac(1), mac(2))])
        assert await got(c) == [frame(mac(1), mac(2))]


async def test_a_client_that_dies_takes_its_addresses_with_it_and_nobody_else() -> None:
    switch = Switch()
    dying, inner = memory_endpoint_pair()
    a, inner_a = memory_endpoint_pair()
    b, inner_b = memory_endpoint_pair()

    async def until_gone() -> None:
        with pytest.raises(EndpointGone):
            await switch.serve(inner)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_gone)
        nursery.start_soon(switch.serve, inner_a)
        nursery.start_soon(switch.serve, inner_b)
        await trio.testing.wait_all_tasks_blocked()
        await dying.send([frame(EVERYBODY, mac(1))])
        await got(a)
        await got(b)
        assert len(switch.table) == 1
        await dying.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert len(switch.table) == 0
        assert len(switch.ports) == 2
        await a.send([frame(mac(1), mac(2))])
        assert await got(b) == [frame(mac(1), mac(2))]
        nursery.cancel_scope.cancel()
    assert switch.ports == []


class Stopped(MemoryEndpoint):
    """A client that has stopped: what is sent to it waits for ever."""

    async def send(self, frames: Sequence[Frame]) -> None:
        await trio.sleep_forever()


async def test_a_stopped_client_loses_its_own_frames_and_slows_nobody() -> None:
    switch = Switch()
    a, inner_a = memory_endpoint_pair(capacity=10_000)
    b, inner_b = memory_endpoint_pair(capacity=10_000)
    _, quiet = memory_endpoint_pair()
    stopped = Stopped("stopped", quiet._inbox, quiet._outbox, None)
    async with trio.open_nursery() as nursery:
        for endpoint in (inner_a, inner_b, stopped):
            nursery.start_soon(switch.serve, endpoint)
            await trio.testing.wait_all_tasks_blocked()
        await a.send([frame(EVERYBODY, mac(1))])
        await trio.testing.wait_all_tasks_blocked()
        sent = [frame(EVERYBODY, mac(1), payload=n.to_bytes(4, "big")) for n in range(3000)]
        await a.send(sent)
        assert len(await got(b)) == 3001
        (port,) = (p for p in switch.ports if p.name == "stopped")
        # The oldest went, and the newest are there.
        assert QUEUE_FRAMES - 20 < len(port.waiting) <= QUEUE_FRAMES
        assert port.counters.outbound.drops == {DropReason.QUEUE_FULL: 3000 - len(port.waiting)}
        kept = sent[-len(port.waiting) :]
        assert port.waiting.pull(trio.current_time(), 10**9) == kept
        nursery.cancel_scope.cancel()


def test_a_queue_is_bounded_in_bytes_as_well() -> None:
    _, endpoint = memory_endpoint_pair()
    port = Port("p", endpoint, None)
    port.queue([bytes(60_000)] * 30, 0.0)
    assert len(port.waiting) == 17
    assert port.waiting.backlog_bytes == 17 * 60_000 <= QUEUE_BYTES


def test_what_is_sparse_passes_what_is_bulk_in_a_ports_queue() -> None:
    _, endpoint = memory_endpoint_pair()
    port = Port("p", endpoint, None)
    bulk: list[Frame] = [frame(mac(2), mac(1), payload=bytes(1500))] * 200
    ping = frame(mac(2), mac(3))
    port.queue(bulk, 0.0)
    first = port.take(0.0)
    assert first == bulk[: len(first)]
    assert len(first) < 100
    port.queue([ping], 0.001)
    assert ping in port.take(0.001)[:2]
    assert port.counters.outbound.frames > len(first) + 1


async def test_runts_and_forged_sources_are_dropped_and_counted() -> None:
    async with switch_with(2) as (switch, (a, b)):
        await a.send([b"short", frame(EVERYBODY, EVERYBODY), frame(EVERYBODY, mac(1))])
        assert await got(b) == [frame(EVERYBODY, mac(1))]
        counters = switch.ports[0].snapshot()
        assert counters.inbound.drops == {DropReason.RUNT: 1, DropReason.SOURCE_NOT_ALLOWED: 1}
        assert counters.inbound.frames == 3
        assert switch.ports[1].snapshot().outbound.frames == 1


async def test_what_may_not_leave_through_the_tap_is_counted_there() -> None:
    switch = Switch()
    tap_mac = mac(0x99)
    outside, tap = memory_endpoint_pair(("outside", "tap0"))
    client, inner = memory_endpoint_pair()
    other, inner_other = memory_endpoint_pair()
    source_filter = SourceFilter([IPv4Network("198.18.0.0/24")], tap_mac)

    async def serve_tap() -> None:
        await switch.serve(tap, egress=source_filter, pinned=[tap_mac])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_tap)
        for endpoint in (inner, inner_other):
            nursery.start_soon(switch.serve, endpoint)
        await trio.testing.wait_all_tasks_blocked()
        # An experimental type, which secure mode does not let out, but clients get; and one that
        # claims to be the TAP.
        await client.send([frame(EVERYBODY, mac(1)), frame(EVERYBODY, tap_mac)])
        assert await got(other) == [frame(EVERYBODY, mac(1))]
        assert await got(outside) == []
        port = next(p for p in switch.ports if p.name == "tap0")
        assert port.counters.outbound.drops == {DropReason.ETHERTYPE: 1}
        assert switch.table.forgeries == 1
        nursery.cancel_scope.cancel()


# --- against what 802.1D says ---------------------------------------------------------------------


def by_flow(frames: Iterable[Frame]) -> list[bytes]:
    """Those with the same addresses together, in their order: a port keeps no other."""
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
def test_every_frame_goes_exactly_where_a_bridge_sends_it(
    script: list[tuple[int, list[tuple[int, int, int]]]],
) -> None:
    async def play() -> None:
        known: dict[tuple[int, bytes], int] = {}
        expected: list[list[bytes]] = [[] for _ in range(4)]
        async with switch_with(4) as (_, plugs):
            for number, (sender, batch) in enumerate(script):
                frames = []
                for destination, source, vlan in batch:
                    to = EVERYBODY if destination == 0 else mac(destination)
                    one = frame(to, mac(source), vlan, bytes([number]))
                    frames.append(one)
                    known[vlan, mac(source)] = sender
                    there = known.get((vlan, to))
                    for port in range(4) if there is None else (there,):
                        if port != sender:
                            expected[port].append(one)
                if frames:
                    await plugs[sender].send(frames)
                await trio.testing.wait_all_tasks_blocked()
            for plug, wanted in zip(plugs, expected, strict=True):
                assert by_flow(await got(plug)) == by_flow(wanted)

    trio.run(play)
