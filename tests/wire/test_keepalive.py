"""When a peer counts as dead, with the time handed in: 15 seconds of timeout, 5 to a PING."""

from __future__ import annotations

import pytest

from vknet.wire.keepalive import Keepalive

TIMEOUT = 15.0
INTERVAL = 5.0
START = 1000.0


@pytest.fixture
def health() -> Keepalive:
    return Keepalive(START, TIMEOUT)


def follow(health: Keepalive, until: float, now: float = START) -> list[tuple[float, str]]:
    """Check when the peer's health wants to be checked, and note what comes of it."""
    events: list[tuple[float, str]] = []
    while (now := health.next_check(now)) <= until:
        if health.is_dead(now):
            return [*events, (now - START, "dead")]
        if health.ping_due(now):
            events.append((now - START, "ping"))
    return events


def test_silent_peer_gets_two_pings_and_is_then_dead(health: Keepalive) -> None:
    assert follow(health, START + 100) == [(5, "ping"), (10, "ping"), (15, "dead")]


def test_nothing_is_due_at_the_start(health: Keepalive) -> None:
    assert not health.ping_due(START)
    assert not health.is_dead(START)
    assert health.next_check(START) == START + INTERVAL
    assert health.silence(START) == 0


def test_any_byte_shows_that_the_peer_is_alive(health: Keepalive) -> None:
    for second in range(100):
        now = START + second
        assert not health.is_dead(now)
        health.on_received(now)
        health.next_check(now)
    assert health.silence(START + 99 + 3) == 3
    assert follow(health, START + 200, START + 99)[-1] == (99 + 15, "dead")


def test_silence_counts_from_the_last_byte(health: Keepalive) -> None:
    health.on_received(START + 4)
    assert health.silence(START + 10) == 6
    health.next_check(START + 18.5)
    assert not health.is_dead(START + 18.9)
    assert health.is_dead(START + 19)


def test_peer_that_answers_is_never_dead(health: Keepalive) -> None:
    now, pings = START, 0
    while now < START + 1000:
        now = health.next_check(now)
        assert not health.is_dead(now)
        if health.ping_due(now):
            pings += 1
            health.on_sent(now)
            health.on_received(now + 0.25)
    assert pings == pytest.approx(1000 / INTERVAL, abs=10)


def test_no_ping_is_due_while_bytes_go_both_ways(health: Keepalive) -> None:
    for second in range(60):
        health.on_received(START + second)
        health.on_sent(START + second)
        assert not health.ping_due(START + second + 4.9)


def test_ping_is_due_when_nothing_is_received_during_sending(health: Keepalive) -> None:
    for second in range(6):
        health.on_sent(START + second)
    assert not health.ping_due(START + 4.9)
    assert health.ping_due(START + 5)


def test_ping_is_due_when_nothing_is_sent_during_receiving(health: Keepalive) -> None:
    for second in range(6):
        health.on_received(START + second)
    assert not health.ping_due(START + 4.9)
    assert health.ping_due(START + 5)


def test_ping_that_is_due_counts_as_sent(health: Keepalive) -> None:
    assert health.ping_due(START + 7)
    assert not health.ping_due(START + 7)
    assert not health.ping_due(START + 11.9)
    assert health.ping_due(START + 12)


def test_sending_does_not_keep_a_silent_peer_alive(health: Keepalive) -> None:
    for second in range(16):
        health.on_sent(START + second)
    health.next_check(START + 15)
    assert health.is_dead(START + 15)


def test_next_check_is_when_a_ping_or_the_timeout_is_due(health: Keepalive) -> None:
    assert health.next_check(START + 1) == START + 5
    assert health.ping_due(START + 9)
    assert health.next_check(START + 9) == START + 14
    assert health.ping_due(START + 14)
    assert health.next_check(START + 14) == START + 15


def test_next_check_is_never_in_the_past(health: Keepalive) -> None:
    assert health.next_check(START + 50) == START + 50


def test_peer_with_a_shorter_timeout_gets_more_pings() -> None:
    health = Keepalive(START, TIMEOUT, peer_timeout=3.0)
    events = follow(health, START + 100)
    assert events == [*((float(n), "ping") for n in range(1, 15)), (15, "dead")]


def test_peer_with_a_longer_timeout_changes_nothing() -> None:
    health = Keepalive(START, TIMEOUT, peer_timeout=600.0)
    assert follow(health, START + 100) == [(5, "ping"), (10, "ping"), (15, "dead")]


def test_suspension_does_not_count_as_silence_of_the_peer(
    health: Keepalive,
) -> None:
    assert health.next_check(START) == START + 5
    now = START + 60
    assert not health.is_dead(now)
    assert health.next_check(now) <= now + INTERVAL


def test_suspended_side_waits_another_third_for_queued_bytes(health: Keepalive) -> None:
    health.next_check(START)
    now = START + 60
    assert not health.is_dead(now)
    assert follow(health, START + 200, now)[-1] == (65, "dead")


def test_suspended_side_that_finds_bytes_keeps_the_link(health: Keepalive) -> None:
    health.next_check(START)
    now = START + 60
    assert not health.is_dead(now)
    health.on_received(now)
    assert follow(health, START + 200, now)[-1] == (75, "dead")


def test_slightly_late_check_does_not_extend_the_timeout(health: Keepalive) -> None:
    assert health.ping_due(START + 10)
    assert health.next_check(START + 10) == START + 15
    assert health.is_dead(START + 15 + 4.9)


def test_suspension_shorter_than_the_timeout_kills_no_link(health: Keepalive) -> None:
    health.next_check(START)
    assert not health.is_dead(START + 14)
    assert health.silence(START + 14) == 14


def test_something_is_due_at_every_requested_check() -> None:
    # Otherwise a task that follows `next_check` would loop until the clock moves.
    for start, timeout in [(0.1, 0.7), (832089.5703383038, 15.242289719451195), (3.3, 1.1)]:
        health = Keepalive(start, timeout)
        now = health.next_check(start)
        assert health.is_dead(now) or health.ping_due(now)
