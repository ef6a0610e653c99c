"""The retry scope under a virtual clock, held to a model."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest
import trio
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.support.retrying import CAUSES, TIMEOUT, Stage, Step, WatchedMonitor, model, perform
from vknet import (
    Connecting,
    LinkSettings,
    Lost,
    MemoryEndpoint,
    PeerGone,
    RetryPolicy,
    SetupError,
    State,
    Transport,
    Up,
    UsageError,
    keep_linked,
)

# --- what has to hold for any script --------------------------------------------------------------

eighths = st.integers(1, 80).map(lambda n: n / 8)
# A peer that says nothing at all must have been heard before the timeout.
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
def test_any_script_goes_as_the_model_has_it(
    script: list[Step], policy: RetryPolicy | None
) -> None:
    seen = perform(script, policy)
    event(f"attempts: {len(seen.attempts)}, gave up: {seen.raised is not None}")
    assert seen.attempts == model(script, policy)


@settings(deadline=None, max_examples=75)
@given(st.lists(steps, max_size=8), persistent | policies)
def test_after_any_script_everything_is_closed(
    script: list[Step], policy: RetryPolicy | None
) -> None:
    stage = perform(script, policy).stage
    assert all(endpoint.closed for endpoint in stage.endpoints)
    assert all(stream.closed for stream in stage.streams)
    assert stage.peers == 0


@settings(deadline=None, max_examples=75)
@given(st.lists(steps, min_size=1, max_size=8), persistent | policies)
def test_any_script_ends_with_its_last_cause_or_by_being_stopped(
    script: list[Step], policy: RetryPolicy | None
) -> None:
    seen = perform(script, policy)
    last = seen.states[-1]
    if isinstance(last, Lost):
        assert last.retry_in is None
        assert seen.raised is last.cause
        assert not seen.stage.scope.cancelled_caught
    else:
        assert isinstance(last, Connecting)
        assert seen.raised is None
        assert seen.stage.scope.cancelled_caught


@settings(deadline=None, max_examples=75)
@given(st.lists(steps, max_size=8), persistent)
def test_states_follow_each_other_in_order(script: list[Step], policy: RetryPolicy) -> None:
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

FAILS: Final = Step("carrier fails", 0.5)
UP: Final = Step("stream ends", 2.0)


def test_without_a_policy_the_first_loss_is_the_last() -> None:
    seen = perform([UP, UP], None)
    assert isinstance(seen.raised, PeerGone)
    assert len(seen.attempts) == 1


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_the_limit_counts_retries_after_the_first_attempt(retries: int) -> None:
    seen = perform([FAILS] * 20, RetryPolicy(1.0, retries))
    assert isinstance(seen.raised, SetupError)
    assert [a.began for a in seen.attempts] == [1.5 * n for n in range(retries + 1)]


def test_a_link_that_was_up_starts_the_count_anew() -> None:
    script = [FAILS, FAILS, UP, FAILS, UP, FAILS, FAILS, FAILS, UP]
    seen = perform(script, RetryPolicy(1.0, 2))
    assert len(seen.attempts) == 7
    assert isinstance(seen.raised, SetupError)


def test_attempts_are_numbered_from_the_start_or_from_the_last_link() -> None:
    states = perform([FAILS, FAILS, UP, FAILS, UP], RetryPolicy(1.0)).states
    numbers = [state.attempt for state in states if isinstance(state, Connecting)]
    assert numbers == [1, 2, 3, 1, 2, 1]


def test_an_endpoint_outlives_any_number_of_links() -> None:
    seen = perform([UP, FAILS, Step("silence"), Step("nonsense")] * 10, RetryPolicy(1.0))
    assert len(seen.attempts) == 41
    assert len(seen.stage.endpoints) == 1


def test_an_endpoint_that_has_gone_is_opened_again_after_the_delay() -> None:
    seen = perform([UP, Step("gone"), Step("endpoint fails", 0.25), UP], RetryPolicy(4.0))
    assert [a.opened for a in seen.attempts] == [1, 1, 1, 2, 2]
    assert [a.began for a in seen.attempts] == [0.0, 6.0, 11.0, 15.25, 21.25]


def test_no_delay_is_still_a_moment() -> None:
    seen = perform([FAILS, FAILS], RetryPolicy(0.0))
    gaps = [b.began - (a.ended or 0) for a, b in pairwise(seen.attempts)]
    assert gaps == [pytest.approx(0.1)] * 2


def test_a_silent_peer_is_noticed_in_the_timeout() -> None:
    seen = perform([Step("silence", 20.0)], RetryPolicy(1.0))
    assert seen.attempts[0].ended == 20.0 + TIMEOUT
    lost = seen.states[2]
    assert isinstance(lost, Lost)
    assert "has fallen silent" in str(lost.cause)


def test_a_usage_error_is_never_retried() -> None:
    tried: list[float] = []

    async def open_endpoint() -> MemoryEndpoint:
        tried.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise UsageError("that makes no sense")

    async def main() -> None:
        with pytest.raises(UsageError, match="makes no sense"):
            await keep_linked(open_endpoint, no_carrier, RetryPolicy(1.0))

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert len(tried) == 1


def no_carrier() -> Transport:
    raise AssertionError("without an endpoint there is nothing to carry")


def cancelled_at(time: float) -> Stage:
    """A script of one long link and one failure, stopped at this time."""

    async def main() -> Stage:
        stage = Stage([Step("stream ends", 4.0), FAILS, FAILS], WatchedMonitor())
        with trio.move_on_after(time) as stopped:
            await keep_linked(
                stage.open_endpoint,
                stage.new_transport,
                RetryPolicy(2.0),
                LinkSettings(timeout=TIMEOUT),
                monitor=stage.monitor,
            )
        assert stopped.cancelled_caught
        return stage

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("time", [0.0, 1.0, 3.5, 4.5, 5.5, 6.25, 7.0])
def test_it_can_be_stopped_at_any_time_and_leaves_nothing_open(time: float) -> None:
    stage = cancelled_at(time)
    assert all(endpoint.closed for endpoint in stage.endpoints)
    assert all(stream.closed for stream in stage.streams)
    assert stage.peers == 0
    assert len(stage.monitor.attempts) == (1 if time < 6 else 2)
