"""The monitor of a link: its states and its counters."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.links import ending
from vknet.counters import Counters, DropReason
from vknet.endpoints import memory_endpoint_pair
from vknet.errors import PeerGone
from vknet.monitor import Connecting, Idle, Lost, Monitor, State, Up

UP = Up("home", wire=2, endpoint="tap0", peer_endpoint="tap1", took=0.5)
LOST = Lost(PeerGone("gone"), retry_in=5.0)


def changes_of(monitor: Monitor) -> AsyncGenerator[State, Any]:
    """Return the changes as a generator that can be closed, as a reader that stops early must."""
    changes = monitor.changes()
    assert isinstance(changes, AsyncGenerator)
    return changes


@pytest.fixture
def monitor() -> Monitor:
    return Monitor()


async def test_new_monitor_is_idle_with_counters_at_zero(monitor: Monitor) -> None:
    assert monitor.state == Idle()
    assert monitor.counters == Counters()
    assert monitor.round_trip is None


async def test_state_is_the_last_one_set(monitor: Monitor) -> None:
    for state in (Connecting(1), UP, LOST):
        monitor.set_state(state)
        assert monitor.state is state


async def test_wait_for_the_current_state_returns_at_once(monitor: Monitor) -> None:
    monitor.set_state(UP)
    with trio.fail_after(0):
        assert await monitor.wait_for(Up) is UP


async def test_wait_for_a_state_ignores_the_others(monitor: Monitor) -> None:
    waited_for: list[State] = []

    async def wait() -> None:
        waited_for.append(await monitor.wait_for(Lost))

    async with ending(wait, wait):
        for state in (Connecting(1), UP):
            monitor.set_state(state)
            await wait_all_tasks_blocked()
            assert waited_for == []
        monitor.set_state(LOST)
    assert waited_for == [LOST, LOST]


async def test_changes_are_the_current_state_and_each_following_one(monitor: Monitor) -> None:
    seen: list[State] = []

    async def watch() -> None:
        async with aclosing(changes_of(monitor)) as changes:
            async for state in changes:
                seen.append(state)
                if isinstance(state, Lost):
                    return

    async with ending(watch):
        for state in (Connecting(1), UP, LOST):
            await wait_all_tasks_blocked()
            monitor.set_state(state)
    assert seen == [Idle(), Connecting(1), UP, LOST]


async def test_slow_reader_of_changes_misses_states_but_not_the_last(
    monitor: Monitor,
) -> None:
    async with aclosing(changes_of(monitor)) as changes:
        assert await anext(changes) == Idle()
        for state in (Connecting(1), UP, LOST, Connecting(2)):
            monitor.set_state(state)
        assert await anext(changes) == Connecting(2)
        with trio.move_on_after(0) as timeout:
            await anext(changes)
        assert timeout.cancelled_caught


async def test_counters_are_a_snapshot(monitor: Monitor) -> None:
    monitor.link_counters.outbound.frames = 1
    monitor.link_counters.inbound.drops[DropReason.RUNT] = 2
    before = monitor.counters
    monitor.link_counters.outbound.frames = 5
    monitor.link_counters.inbound.drops[DropReason.RUNT] = 7
    assert (before.outbound.frames, before.inbound.drops[DropReason.RUNT]) == (1, 2)
    before.inbound.drops[DropReason.RUNT] = 100
    assert monitor.counters.inbound.drops[DropReason.RUNT] == 7


async def test_drops_of_the_endpoint_are_counted_by_direction(
    monitor: Monitor,
) -> None:
    endpoint, _ = memory_endpoint_pair()
    monitor.watch_endpoint(endpoint)
    monitor.link_counters.outbound.drops[DropReason.TRUNCATED] = 1
    endpoint.receive_drops[DropReason.TRUNCATED] += 2
    endpoint.receive_drops[DropReason.RUNT] += 3
    endpoint.send_drops[DropReason.ENDPOINT_FULL] += 4
    assert monitor.counters.outbound.drops == {"truncated": 3, "runt": 3}
    assert monitor.counters.inbound.drops == {"endpoint-full": 4}
    assert monitor.link_counters.inbound.drops == {}


async def test_drops_of_an_endpoint_watched_twice_are_counted_once(monitor: Monitor) -> None:
    endpoint, other = memory_endpoint_pair()
    endpoint.send_drops[DropReason.ENDPOINT_FULL] += 5
    monitor.watch_endpoint(endpoint)
    endpoint.send_drops[DropReason.ENDPOINT_FULL] += 1
    for watched in (endpoint, endpoint, other, endpoint):
        monitor.watch_endpoint(watched)
    assert monitor.counters.inbound.drops == {"endpoint-full": 1}


async def test_drops_of_an_endpoint_are_kept_when_another_replaces_it(
    monitor: Monitor,
) -> None:
    first, _ = memory_endpoint_pair()
    second, _ = memory_endpoint_pair()
    monitor.watch_endpoint(first)
    monitor.link_counters.outbound.frames += 10
    first.send_drops[DropReason.ENDPOINT_FULL] += 1
    monitor.watch_endpoint(second)
    second.send_drops[DropReason.ENDPOINT_FULL] += 2
    monitor.link_counters.outbound.frames += 5
    assert monitor.counters.inbound.drops == {"endpoint-full": 3}
    assert monitor.counters.outbound.frames == 15


async def test_drops_of_a_full_memory_endpoint_are_in_the_counters(monitor: Monitor) -> None:
    endpoint, _ = memory_endpoint_pair(capacity=2)
    monitor.watch_endpoint(endpoint)
    await endpoint.send([b"1", b"2", b"3", b""])
    assert monitor.counters.inbound.drops == {"endpoint-full": 1, "empty": 1}
