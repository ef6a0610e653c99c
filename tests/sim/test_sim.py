"""A simulated cable: its paths with times given by the test, and the cable on virtual time."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import vknet
from tests.support.links import running
from vknet.counters import DropReason
from vknet.sim import Cable, Counts, Impairment, Path
from vknet.sim.__main__ import parse_arguments
from vknet.sim.alarm import SleepAlarm, TimerAlarm, new_alarm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet import Frame


def frame(number: int, size: int = 1000) -> bytes:
    return number.to_bytes(4, "big") + bytes(size - 4)


def numbers(frames: Sequence[Frame]) -> list[int]:
    return [int.from_bytes(frame[:4], "big") for frame in frames]


def passage(
    path: Path, count: int, *, interval: float = 0.0, seed: int = 0
) -> list[tuple[float, int]]:
    """Put in frames of 1000 bytes, one per `interval` in seconds from 0 on; return as `drain`."""
    impairment = Impairment(path, seed)
    for number in range(count):
        impairment.put([frame(number)], number * interval)
    return drain(impairment)


def drain(impairment: Impairment) -> list[tuple[float, int]]:
    """Take all frames out when they are due; return the due time and the number of each."""
    found = []
    while (due := impairment.next_due()) is not None:
        found += [(due, number) for number in numbers(impairment.take(due, 1))]
    return found


# --- one direction --------------------------------------------------------------------------------


def test_path_without_impairments_has_no_delay() -> None:
    assert passage(Path(), 3) == [(0.0, 0), (0.0, 1), (0.0, 2)]


def test_every_frame_takes_exactly_the_delay() -> None:
    assert passage(Path(delay=0.25), 3, interval=0.125) == [(0.25, 0), (0.375, 1), (0.5, 2)]


def test_frames_leave_at_the_rate_by_their_size() -> None:
    # 1000 bytes take 1/8 s.  The bottleneck is idle before the last frame.
    path = Path(rate=64_000, delay=1.0)
    impairment = Impairment(path)
    impairment.put([frame(0), frame(1, 500), frame(2)], 0.0)
    impairment.put([frame(3)], 2.0)
    assert drain(impairment) == [(1.125, 0), (1.1875, 1), (1.3125, 2), (3.125, 3)]


def test_rate_is_exact_when_frames_are_collected_late() -> None:
    # 1024 frames per second go out, and 2048 come in.
    impairment = Impairment(Path(rate=8_192_000, limit=10**9))
    for number in range(2048):
        impairment.put([frame(number)], number / 2048)
    assert len(impairment.take(0.5)) == 512
    assert len(impairment.take(10.0)) == 1536
    assert impairment.next_due() is None


def test_queue_limited_in_bytes_drops_the_newest_frame_and_counts_it() -> None:
    impairment = Impairment(Path(rate=8000, limit=3000))
    impairment.put([frame(number) for number in range(5)], 0.0)
    assert impairment.counts.drops == {DropReason.QUEUE_FULL: 2}
    # At 0.5 s half of the first frame is sent; at 1 s there is room for one more.
    impairment.put([frame(5)], 0.5)
    impairment.put([frame(6)], 1.0)
    assert drain(impairment) == [(1.0, 0), (2.0, 1), (3.0, 2), (4.0, 6)]
    assert impairment.counts == Counts(4, 4000, impairment.counts.drops)
    assert impairment.counts.drops == {DropReason.QUEUE_FULL: 3}


def test_queue_limited_in_time_lets_no_frame_wait_longer() -> None:
    impairment = Impairment(Path(rate=8000, latency=2.0))
    impairment.put([frame(number) for number in range(5)], 0.0)
    assert drain(impairment) == [(1.0, 0), (2.0, 1), (3.0, 2)]
    assert impairment.counts.drops == {DropReason.QUEUE_FULL: 2}


def test_queue_has_a_limit_by_default() -> None:
    impairment = Impairment(Path(rate=8000))
    impairment.put([frame(0, 1514)] * 1100, 0.0)
    assert impairment.counts.drops == {DropReason.QUEUE_FULL: 100}


def test_bytes_held_by_a_long_delay_are_bounded() -> None:
    impairment = Impairment(Path(delay=1000.0))
    big = bytes(60_000)
    for _ in range(60):
        impairment.put([big] * 100, 0.0)
    assert 0 < impairment.counts.drops[DropReason.QUEUE_FULL] < 6000
    assert len(impairment.take(1000.0)) * len(big) <= 256 * 1024 * 1024
    before = impairment.counts.drops[DropReason.QUEUE_FULL]
    for second in range(60):
        impairment.put([big] * 100, 2000.0 * second)
        impairment.take(2000.0 * second + 1000.0)
    assert impairment.counts.drops[DropReason.QUEUE_FULL] == before, (
        "frames that were taken out still count as held"
    )


def test_loss_has_the_given_fraction_and_depends_only_on_the_seed() -> None:
    path = Path(loss=0.1)
    first = passage(path, 10_000, seed=1)
    assert 8_800 < len(first) < 9_200
    assert passage(path, 10_000, seed=1) == first
    assert passage(path, 10_000, seed=2) != first


def test_jitter_stays_in_its_bounds_and_keeps_the_order() -> None:
    found = passage(Path(delay=0.1, jitter=0.05), 2000, interval=0.03)
    delays = [due - number * 0.03 for due, number in found]
    assert [number for _, number in found] == list(range(2000))
    assert min(delays) == pytest.approx(0.05, abs=0.002)
    assert max(delays) == pytest.approx(0.15, abs=0.002)
    assert all(a <= b for (a, _), (b, _) in itertools.pairwise(found))


def test_reordered_frames_are_not_delayed() -> None:
    found = passage(Path(delay=1.0, reorder=0.2), 1000, interval=0.25)
    delays = {number: due - number * 0.25 for due, number in found}
    assert set(delays.values()) == {0.0, 1.0}
    assert 150 < sum(delay == 0.0 for delay in delays.values()) < 250
    assert [due for due, _ in found] == sorted(due for due, _ in found)


def test_new_path_applies_to_the_frames_that_follow() -> None:
    impairment = Impairment(Path(delay=1.0))
    impairment.put([frame(0)], 0.0)
    impairment.path = Path(delay=3.0)
    impairment.put([frame(1)], 0.5)
    impairment.path = Path(delay=0.25)
    impairment.put([frame(2)], 2.0)
    # A shorter delay does not let the last frame overtake.
    assert drain(impairment) == [(1.0, 0), (3.5, 1), (3.5, 2)]


def test_raised_rate_counts_at_once_for_the_frames_in_the_queue() -> None:
    impairment = Impairment(Path(rate=8e3))
    impairment.put([frame(number) for number in range(10)], 0.0)
    impairment.path = Path(rate=8e6)
    impairment.put([frame(10)], 0.5)
    # Half of the first frame is sent by then; each of the others takes 1 ms.
    expected = [(0.5005 + 0.001 * number, number) for number in range(11)]
    found = drain(impairment)
    assert [number for _, number in found] == [number for _, number in expected]
    assert [due for due, _ in found] == pytest.approx([due for due, _ in expected])


def test_lowered_rate_counts_at_once_for_the_frames_in_the_queue() -> None:
    impairment = Impairment(Path(rate=8e6, delay=1.0))
    impairment.put([frame(0), frame(1)], 0.0)
    impairment.path = Path(rate=8e3, delay=5.0)
    # The delay is that of the path on which the frame was put in.
    assert impairment.take(0.0005) == []
    found = drain(impairment)
    assert [number for _, number in found] == [0, 1]
    assert [due for due, _ in found] == pytest.approx([1.5005, 2.5005])


def test_path_without_a_rate_empties_the_queue() -> None:
    impairment = Impairment(Path(rate=8e3, limit=2000))
    impairment.put([frame(0), frame(1)], 0.0)
    impairment.path = Path()
    impairment.put([frame(2)] * 3, 0.25)
    assert numbers(impairment.take(0.25)) == [0, 1, 2, 2, 2]
    assert not impairment.counts.drops


def test_raised_rate_makes_room_in_the_queue() -> None:
    impairment = Impairment(Path(rate=8e3, latency=2.0))
    impairment.put([frame(number) for number in range(3)], 0.0)
    impairment.path = Path(rate=8e6, latency=2.0)
    impairment.put([frame(3)], 0.0)
    assert len(drain(impairment)) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"delay": -1.0},
        {"jitter": -0.1},
        {"rate": 0.0},
        {"rate": 1e6, "limit": -1},
        {"limit": 1000},
        {"latency": 0.5},
        {"loss": 1.1},
        {"reorder": -0.1},
        {"delay": float("nan")},
    ],
)
def test_path_with_a_value_out_of_range_is_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(reversed(wrong))) + "|rate"):
        Path(**wrong)


# --- between two endpoints, on virtual time -------------------------------------------------------


async def test_frame_comes_out_when_it_is_due(autojump_clock: trio.testing.MockClock) -> None:
    a, inner_a = vknet.memory_endpoint_pair()
    b, inner_b = vknet.memory_endpoint_pair()
    cable = Cable(inner_a, inner_b, there=Path(delay=2.0, rate=8000), back=Path(delay=0.25))
    async with running(cable):
        start = trio.current_time()
        await a.send([frame(1), frame(2)])
        assert numbers(await b.receive()) == [1]
        assert trio.current_time() - start == 3.0
        await b.send([frame(3)])
        assert numbers(await a.receive()) == [3]
        assert trio.current_time() - start == 3.25
        assert numbers(await b.receive()) == [2]
        assert trio.current_time() - start == 4.0
    assert cable.there.counts == Counts(2, 2000)
    assert cable.back.counts == Counts(1, 1000)


async def test_frame_due_before_an_earlier_one_wakes_the_cable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    a, inner_a = vknet.memory_endpoint_pair()
    b, inner_b = vknet.memory_endpoint_pair()
    cable = Cable(inner_a, inner_b, there=Path(delay=10.0))
    async with running(cable):
        start = trio.current_time()
        await a.send([frame(1)])
        await trio.sleep(1)
        cable.there.path = Path(delay=10.0, reorder=1.0)
        await a.send([frame(2)])
        assert numbers(await b.receive()) == [2]
        assert trio.current_time() - start == 1.0
        assert numbers(await b.receive()) == [1]
        assert trio.current_time() - start == 10.0


async def test_raised_rate_wakes_the_cable(autojump_clock: trio.testing.MockClock) -> None:
    a, inner_a = vknet.memory_endpoint_pair()
    b, inner_b = vknet.memory_endpoint_pair()
    cable = Cable(inner_a, inner_b, there=Path(rate=8.0))
    async with running(cable):
        start = trio.current_time()
        await a.send([frame(1)])
        await trio.sleep(10)
        cable.there.path = Path(rate=8e6)
        assert numbers(await b.receive()) == [1]
        assert trio.current_time() - start == pytest.approx(10.00099)
    # Without a task on the cable there is nothing to wake.
    cable.there.path = Path()


async def test_two_runs_with_one_seed_are_equal(autojump_clock: trio.testing.MockClock) -> None:
    async def run(seed: int) -> list[tuple[float, int]]:
        a, inner_a = vknet.memory_endpoint_pair()
        b, inner_b = vknet.memory_endpoint_pair()
        path = Path(delay=0.5, jitter=0.25, loss=0.25, reorder=0.25)
        found: list[tuple[float, int]] = []
        start = trio.current_time()

        async def listen() -> None:
            while True:
                got = numbers(await b.receive())
                found.extend((round(trio.current_time() - start, 9), n) for n in got)

        async with running(Cable(inner_a, inner_b, there=path, seed=seed), listen):
            for number in range(100):
                await a.send([frame(number)])
                await trio.sleep(0.125)
            await trio.sleep(1)
        return found

    first = await run(7)
    assert len(first) > 50
    assert await run(7) == first
    assert await run(8) != first


async def test_directions_have_independent_random_numbers() -> None:
    path = Path(loss=0.5)
    a, b = vknet.memory_endpoint_pair()
    cable = Cable(a, b, there=path, seed=3)
    for impairment in (cable.there, cable.back):
        impairment.put([frame(number) for number in range(100)], 0.0)
    assert numbers(cable.there.take(0.0)) != numbers(cable.back.take(0.0))


@pytest.mark.parametrize("which", ["a", "b"])
async def test_cable_ends_when_an_endpoint_is_gone(which: str) -> None:
    a, inner_a = vknet.memory_endpoint_pair(("end-a", "cable-a"))
    b, inner_b = vknet.memory_endpoint_pair(("end-b", "cable-b"))
    await {"a": a, "b": b}[which].aclose()
    with pytest.raises(vknet.EndpointGone, match=f"cable-{which} was closed"):
        await Cable(inner_a, inner_b, there=Path()).run()


async def test_cable_joins_two_switches(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # The delay between the switches is 1 s.
    a, port_a = vknet.memory_endpoint_pair()
    b, port_b = vknet.memory_endpoint_pair()
    trunk_a, end_a = vknet.memory_endpoint_pair()
    trunk_b, end_b = vknet.memory_endpoint_pair()
    left, right = vknet.Switch(), vknet.Switch()
    ports = ((left, port_a), (left, end_a), (right, port_b), (right, end_b))
    served = [partial(switch.serve, endpoint) for switch, endpoint in ports]
    async with running(*served, Cable(trunk_a, trunk_b, there=Path(delay=1.0))):
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await a.send([b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5 over the cable"])
        assert (await b.receive())[0][-14:] == b"over the cable"
        assert trio.current_time() - start == 1.0


# --- the alarm ------------------------------------------------------------------------------------


async def test_alarm_is_a_kernel_timer_in_real_time() -> None:
    with new_alarm() as alarm:
        assert isinstance(alarm, TimerAlarm)
        # A time in the past, and then one that is replaced before it has come.
        alarm.set(trio.current_time() - 5)
        await alarm.wait()
        alarm.set(trio.current_time() + 3600)
        when = trio.current_time() + 0.003
        alarm.set(when)
        await alarm.wait()
        assert trio.current_time() >= when


async def test_alarm_is_trios_own_sleep_on_virtual_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with new_alarm() as alarm:
        assert isinstance(alarm, SleepAlarm)
        start = trio.current_time()
        alarm.set(start + 3600)
        alarm.set(start + 1.5)
        await alarm.wait()
        assert trio.current_time() == start + 1.5


async def test_alarm_ignores_a_readable_event_before_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait_readable = trio.lowlevel.wait_readable
    calls = itertools.count()

    async def readable_too_early(fd: int) -> None:
        if next(calls):
            await wait_readable(fd)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", readable_too_early)
    with TimerAlarm() as alarm:
        when = trio.current_time() + 0.001
        alarm.set(when)
        await alarm.wait()
        assert trio.current_time() >= when


async def test_alarm_set_again_after_it_expired_waits_again() -> None:
    with TimerAlarm() as alarm:
        alarm.set(trio.current_time() - 1)
        await alarm.wait()
        alarm.set(trio.current_time() + 3600)
        with trio.move_on_after(0) as scope:
            await alarm.wait()
        assert scope.cancelled_caught


# --- the arguments of the program -----------------------------------------------------------------


def test_options_apply_to_both_directions_unless_they_begin_with_back() -> None:
    line = "--delay 15ms --rate 10mbit --limit 500ms --loss 1% --back-rate 2mbit --seed 4 w0 w1"
    there, back, seed, taps = parse_arguments(line.split())
    assert there == Path(delay=0.015, rate=10e6, latency=0.5, loss=0.01)
    assert back == Path(delay=0.015, rate=2e6, latency=0.5, loss=0.01)
    assert (seed, taps) == (4, ("w0", "w1"))


def test_limit_may_be_a_size() -> None:
    line = "--rate 1gbit --limit 64kb --jitter 250us w0 w1"
    there, *_ = parse_arguments(line.split())
    assert there == Path(rate=1e9, limit=65536, jitter=0.00025)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--delay 15 w0 w1", "'15' is not a number with a unit (us, ms, s)"),
        ("--rate fast w0 w1", "'fast' is not a number with a unit (bit, kbit, mbit, gbit)"),
        ("--limit 500ms w0 w1", "limit and latency need a rate: without one there is no queue"),
        ("--loss 101% w0 w1", "loss must be from 0 to 1 (100 %), but is 1.01"),
        ("w0", "required: TAP"),
    ],
)
def test_wrong_arguments_are_rejected(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(line.split())
    assert message in capsys.readouterr().err
