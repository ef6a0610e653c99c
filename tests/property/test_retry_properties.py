"""`keep_linked` under a virtual clock, compared with a model."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

import pytest
import trio
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from tests.support.retrying import (
    CAUSES,
    TIMEOUT_S,
    Observed,
    ScriptBed,
    Step,
    WatchedMonitor,
    model,
    perform,
)
from vknet import (
    Connecting,
    LinkSettings,
    Lost,
    MemoryEndpoint,
    PeerGone,
    RetryPolicy,
    SetupError,
    State,
    StreamTransport,
    Transport,
    Up,
    UsageError,
    Wire,
    keep_linked,
    memory_endpoint_pair,
)
from vknet.link.backoff import MIN_DELAY_S, Backoff, Failure
from vknet.link.host_changes import HostChanges

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from tests.support.retrying import Kind

# --- any script -----------------------------------------------------------------------------------

eighths = st.integers(1, 80).map(lambda n: n / 8)
# Without a HELLO, the event must come before the timeout.
short_eighths = st.integers(1, 20).map(lambda n: n / 8)
steps = st.one_of(
    st.builds(Step, st.sampled_from(list(CAUSES)), eighths),
    st.builds(
        Step, st.sampled_from([k for k in CAUSES if k != "gone"]), short_eighths, st.just(False)
    ),
)
policies = st.none() | st.builds(RetryPolicy, eighths, st.none() | st.integers(0, 4))
persistent = st.builds(RetryPolicy, eighths, st.none() | st.integers(3, 9))


@settings(deadline=None, max_examples=150)
@given(st.lists(steps, max_size=10), persistent | policies)
@example([Step("gone"), Step("endpoint fails"), Step("endpoint fails"), Step("farewell")], None)
@example([Step("silence", 10.0), Step("silence", 0.125, greets=False)], RetryPolicy(0.125))
def test_script_runs_as_the_model_predicts(script: list[Step], policy: RetryPolicy | None) -> None:
    observed = perform(script, policy)
    event(f"attempts: {len(observed.attempts)}, gave up: {observed.raised is not None}")
    assert observed.attempts == model(script, policy)


@settings(deadline=None, max_examples=75)
@given(st.lists(steps, max_size=8), persistent | policies)
def test_script_leaves_everything_closed(script: list[Step], policy: RetryPolicy | None) -> None:
    bed = perform(script, policy).bed
    assert all(endpoint.closed for endpoint in bed.endpoints)
    assert all(stream.closed for stream in bed.streams)
    assert bed.peers == 0


@settings(deadline=None, max_examples=75)
@given(st.lists(steps, min_size=1, max_size=8), persistent | policies)
def test_script_ends_with_its_last_error_or_is_cancelled(
    script: list[Step], policy: RetryPolicy | None
) -> None:
    observed = perform(script, policy)
    last = observed.states[-1]
    if isinstance(last, Lost):
        assert last.retry_in is None
        assert observed.raised is last.cause
        assert not observed.bed.scope.cancelled_caught
    else:
        assert isinstance(last, Connecting)
        assert observed.raised is None
        assert observed.bed.scope.cancelled_caught


@settings(deadline=None, max_examples=75)
@given(st.lists(steps, max_size=8), persistent)
def test_states_follow_each_other_in_a_valid_order(script: list[Step], policy: RetryPolicy) -> None:
    follows: dict[type[State], set[type[State]]] = {
        Connecting: {Up, Lost},
        Up: {Lost},
        Lost: {Connecting},
    }
    states = perform(script, policy).states
    assert isinstance(states[0], Connecting)
    for before, after in pairwise(states):
        assert type(after) in follows[type(before)]


# --- scenarios ------------------------------------------------------------------------------------

FAILS: Final = Step("transport fails", 0.5)
UP: Final = Step("stream ends", 2.0)


def test_lost_link_is_not_retried_without_a_policy() -> None:
    observed = perform([UP, UP], None)
    assert isinstance(observed.raised, PeerGone)
    assert len(observed.attempts) == 1


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_retry_limit_does_not_count_the_first_attempt(retries: int) -> None:
    observed = perform([FAILS] * 20, RetryPolicy(1.0, retries))
    assert isinstance(observed.raised, SetupError)
    assert [a.began for a in observed.attempts] == [0.0, 1.5, 4.0, 8.5, 17.0, 33.5][: retries + 1]


def test_link_that_was_up_resets_the_count_of_retries() -> None:
    script = [FAILS, FAILS, UP, FAILS, UP, FAILS, FAILS, FAILS, UP]
    observed = perform(script, RetryPolicy(1.0, 2))
    assert len(observed.attempts) == 7
    assert isinstance(observed.raised, SetupError)


def test_attempt_numbers_start_again_after_a_link_that_was_up() -> None:
    states = perform([FAILS, FAILS, UP, FAILS, UP], RetryPolicy(1.0)).states
    numbers = [state.attempt for state in states if isinstance(state, Connecting)]
    assert numbers == [1, 2, 3, 1, 2, 1]


def test_endpoint_outlives_its_links() -> None:
    observed = perform([UP, FAILS, Step("silence"), Step("nonsense")] * 10, RetryPolicy(1.0))
    assert len(observed.attempts) == 41
    assert len(observed.bed.endpoints) == 1


def test_endpoint_that_is_gone_is_opened_again_after_the_delay() -> None:
    observed = perform([UP, Step("gone", 2.0), Step("endpoint fails", 0.25), UP], RetryPolicy(4.0))
    assert [a.opened for a in observed.attempts] == [1, 1, 1, 2, 2]
    assert [a.began for a in observed.attempts] == [0.0, 6.0, 12.0, 20.25, 26.25]


def test_delay_of_zero_becomes_the_minimum() -> None:
    observed = perform([FAILS, FAILS], RetryPolicy(0.0))
    assert delays(observed) == [pytest.approx(0.1), pytest.approx(0.2)]


@pytest.mark.parametrize(
    ("kind", "limit"),
    [("endpoint fails", 10.0), ("transport fails", 60.0), ("stream ends", 60.0)],
)
def test_delay_doubles_up_to_the_limit_of_the_failure(kind: Kind, limit: float) -> None:
    observed = perform([Step(kind, 1.0, greets=False)] * 12, RetryPolicy(5.0))
    assert delays(observed) == [min(limit, 5.0 * 2**n) for n in range(12)]


def test_refusal_doubles_the_delay_up_to_five_minutes() -> None:
    observed = perform([Step("nonsense", 1.0, greets=False)] * 9, RetryPolicy(5.0))
    assert delays(observed) == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_refusal_after_a_long_outage_only_doubles_its_delay() -> None:
    script = [FAILS] * 9 + [Step("nonsense", 1.0, greets=False)] * 4 + [FAILS]
    assert delays(perform(script, RetryPolicy(5.0)))[-6:] == [60, 120, 240, 300, 300, 60]


def test_first_delay_above_the_limit_replaces_it() -> None:
    assert delays(perform([FAILS] * 4, RetryPolicy(90.0))) == [90] * 4


def test_lasting_link_begins_with_the_first_delay_again() -> None:
    short = Step("stream ends", 1.0)
    script = [FAILS, FAILS, short, short, UP, FAILS, UP]
    assert delays(perform(script, RetryPolicy(1.0))) == [1, 2, 4, 8, 1, 2, 1]


@settings(deadline=None)
@given(
    st.floats(0, 400),
    st.lists(st.sampled_from(Failure), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_delay_is_within_its_limits(
    first: float, failures: list[Failure], source: random.Random
) -> None:
    """Not shorter than the first, not longer than the limit, and half of the doubled one."""
    backoff = Backoff(first)
    first = max(first, MIN_DELAY_S)
    expected = first / 2
    with patch("vknet.link.backoff.random.uniform", source.uniform):
        for number, failure in enumerate(failures):
            delay = backoff.next_delay(failure)
            expected = min(2 * expected, max(first, failure.value))
            assert max(first, expected / 2) <= delay <= expected
            assert number > 0 or delay == first
    backoff.reset()
    assert backoff.next_delay(Failure.OUTAGE) == first


def test_delays_of_two_clients_differ() -> None:
    one, two = Backoff(1.0), Backoff(1.0)
    pairs = [(one.next_delay(Failure.OUTAGE), two.next_delay(Failure.OUTAGE)) for _ in range(9)]
    assert pairs[0] == (1.0, 1.0)
    assert all(a != b for a, b in pairs[1:])


# --- changes of this host -------------------------------------------------------------------------


class FakeChanges(HostChanges):
    """Reports a change of the host at each of these times after the start."""

    def __init__(self, times: Sequence[float]) -> None:
        self.began = trio.current_time()
        self.times = [self.began + time for time in times]

    def clear(self) -> None:
        self.times = [time for time in self.times if time > trio.current_time()]

    async def wait(self) -> str:
        await trio.sleep_until(self.times[0] if self.times else math.inf)
        self.clear()
        return "a change"


def attempts_with_changes(script: Sequence[Step], *times: float, first: float = 8.0) -> list[float]:
    observed = perform(script, RetryPolicy(first), lambda: FakeChanges(times))
    return [attempt.began for attempt in observed.attempts]


QUICK_FAILURE: Final = Step("transport fails", 1.0)


def test_change_of_the_host_ends_the_delay_and_its_growth() -> None:
    began = attempts_with_changes([QUICK_FAILURE] * 5, 20.0)
    # Without the change: 0, 9, 26, 59.
    assert began == [0, 9, 21, 30, 47, 80]


def test_change_during_an_attempt_shortens_the_delay_after_it() -> None:
    slow = Step("transport fails", 15.0)
    assert attempts_with_changes([slow] * 2, 5.0) == [0, 16, 39]


def test_frequent_changes_end_one_delay_a_minute() -> None:
    began = attempts_with_changes([QUICK_FAILURE] * 60, *range(1, 4000, 3))
    for at in began:
        assert sum(at <= other < at + 60 for other in began) <= 5


def test_frequent_changes_leave_refusals_rare() -> None:
    refusal = Step("nonsense", 1.0, greets=False)
    began = attempts_with_changes([refusal] * 40, *range(1, 20_000, 3))
    late = [b - a for a, b in pairwise(began)][8:]
    assert min(late) >= 300


def test_change_while_the_link_is_up_has_no_effect() -> None:
    assert attempts_with_changes([Step("stream ends", 5.0)], 3.0) == [0, 13]


def test_silent_peer_is_lost_after_the_timeout() -> None:
    observed = perform([Step("silence", 20.0)], RetryPolicy(1.0))
    assert observed.attempts[0].ended == 20.0 + TIMEOUT_S
    lost = observed.states[2]
    assert isinstance(lost, Lost)
    assert "has fallen silent" in str(lost.cause)


def test_usage_error_is_never_retried() -> None:
    tried: list[float] = []

    async def open_endpoint() -> MemoryEndpoint:
        tried.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise UsageError("not valid")

    async def main() -> None:
        with pytest.raises(UsageError, match="not valid"):
            await keep_linked(open_endpoint, no_transport, RetryPolicy(1.0))

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert len(tried) == 1


def test_wire_1_without_an_answer_counts_as_a_failure() -> None:
    tried: list[float] = []

    def new_transport() -> Transport:
        tried.append(trio.current_time())
        ours, theirs = memory_stream_pair()
        theirs.send_stream.close()
        return StreamTransport(ours)

    async def open_endpoint() -> MemoryEndpoint:
        await trio.lowlevel.checkpoint()
        return memory_endpoint_pair()[0]

    async def main() -> None:
        settings = LinkSettings(Wire.V1)
        with pytest.raises(PeerGone):
            await keep_linked(open_endpoint, new_transport, RetryPolicy(1.0, 2), settings)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert tried[1] == tried[0] + 1
    assert tried[1] + 1 <= tried[2] <= tried[1] + 2


def delays(observed: Observed) -> list[float]:
    """The seconds from the end of each attempt to the next one."""
    return [b.began - (a.ended or 0) for a, b in pairwise(observed.attempts)]


def no_transport() -> Transport:
    raise AssertionError("a transport is opened only after the endpoint")


def cancelled_at(time: float) -> ScriptBed:
    """Run a script of one long link and two failures, cancelled at this time."""

    async def main() -> ScriptBed:
        bed = ScriptBed([Step("stream ends", 4.0), FAILS, FAILS], WatchedMonitor())
        with trio.move_on_after(time) as stopped:
            await keep_linked(
                bed.open_endpoint,
                bed.new_transport,
                RetryPolicy(2.0),
                LinkSettings(timeout=TIMEOUT_S),
                monitor=bed.monitor,
            )
        assert stopped.cancelled_caught
        return bed

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("time", [0.0, 1.0, 3.5, 4.5, 5.5, 6.25, 7.0])
def test_cancelling_at_any_time_leaves_nothing_open(time: float) -> None:
    bed = cancelled_at(time)
    assert all(endpoint.closed for endpoint in bed.endpoints)
    assert all(stream.closed for stream in bed.streams)
    assert bed.peers == 0
    assert len(bed.monitor.attempts) == (1 if time < 6 else 2)
