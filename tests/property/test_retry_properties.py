"""The retry scope under a virtual clock, held to a model.

A script says what each attempt meets.  Every time in it is a multiple of 1/8 s, so that sums are
exact and what was seen has to be equal to the model, not near it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import pytest
import trio
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from vknet import (
    Carrier,
    Connecting,
    EndpointGone,
    LinkSettings,
    Lost,
    MemoryEndpoint,
    Monitor,
    PeerGone,
    RemoteProtocolError,
    RetryPolicy,
    SetupError,
    State,
    Up,
    UsageError,
    VknetError,
    Wire,
    keep_linked,
    memory_endpoint_pair,
)
from vknet.decoding import Decoder
from vknet.framing import (
    Bye,
    Ping,
    Pong,
    encode_control,
    encode_frames,
)
from vknet.hello import Hello

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.abc import Stream
    from trio.testing import MemoryReceiveStream, MemorySendStream

    from vknet.carrier import StartSoon
    from vknet.framing import Block

    MemoryStream: TypeAlias = trio.StapledStream[MemorySendStream, MemoryReceiveStream]

TIMEOUT: Final = 3.0
HELLO: Final = Hello("peer", "peer0", 65664, None, mtu_fixed=False, timeout=TIMEOUT)

Kind: TypeAlias = Literal[
    "endpoint fails", "carrier fails", "farewell", "stream ends", "silence", "nonsense", "gone"
]


@dataclass(frozen=True)
class Step:
    """What one attempt meets.

    Attributes:
        kind: how it ends.  "endpoint fails" is met only while an endpoint has to be opened; with
            one that is still open it is a "farewell".
        after: seconds until that happens; a silence is noticed one timeout later.
        greets: the peer says HELLO, and the link is up until then.
    """

    kind: Kind
    after: float = 1.0
    greets: bool = True


@dataclass
class Attempt:
    """One attempt, as it was seen or as the model has it."""

    began: float
    came_up: bool = False
    ended: float | None = None
    retry_in: float | None = None
    cause: type[VknetError] | None = None
    opened: int = 0
    """Endpoints opened since the start."""


CAUSES: Final[dict[Kind, type[VknetError]]] = {
    "endpoint fails": SetupError,
    "carrier fails": SetupError,
    "farewell": PeerGone,
    "stream ends": PeerGone,
    "silence": PeerGone,
    "nonsense": RemoteProtocolError,
    "gone": EndpointGone,
}


def model(script: Sequence[Step], policy: RetryPolicy | None) -> list[Attempt]:
    """What has to come of a script; where the policy does not give up, one attempt past its end."""
    attempts: list[Attempt] = []
    now, failures, opened, have_endpoint = 0.0, 0, 0, False
    for step in script:
        kind = "farewell" if step.kind == "endpoint fails" and have_endpoint else step.kind
        opened += not have_endpoint and kind != "endpoint fails"
        came_up = step.greets and kind not in ("endpoint fails", "carrier fails")
        ended = now + step.after + (TIMEOUT if kind == "silence" else 0)
        failures = 1 if came_up else failures + 1
        gives_up = policy is None or (policy.retries is not None and failures > policy.retries)
        delay = None if policy is None or gives_up else policy.delay
        attempts.append(Attempt(now, came_up, ended, delay, CAUSES[kind], opened))
        have_endpoint = kind not in ("endpoint fails", "gone")
        if delay is None:
            return attempts
        now = ended + delay
    return [*attempts, Attempt(now, opened=opened + (not have_endpoint))]


# --- the stage ------------------------------------------------------------------------------------


class WatchedEndpoint(MemoryEndpoint):
    """A memory endpoint that tells whether it was closed, and holds the other end."""

    def __init__(self) -> None:
        inner, self.other = memory_endpoint_pair()
        super().__init__(inner.name, inner._inbox, inner._outbox, None)
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()


class WatchedStream(trio.abc.HalfCloseableStream):
    """A stream that tells whether it was closed."""

    def __init__(self, inner: MemoryStream) -> None:
        self._inner = inner
        self.closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.closed = True
        await self._inner.aclose()


class WatchedMonitor(Monitor):
    """A monitor that puts the states together to attempts."""

    def __init__(self) -> None:
        super().__init__()
        self.began = trio.current_time()
        self.attempts: list[Attempt] = []
        self.states: list[State] = []

    def set_state(self, state: State) -> None:
        super().set_state(state)
        now = trio.current_time() - self.began
        self.states.append(state)
        match state:
            case Connecting():
                opened = self.attempts[-1].opened if self.attempts else 0
                self.attempts.append(Attempt(now, opened=opened))
            case Up():
                self.attempts[-1].came_up = True
            case Lost(cause, retry_in):
                last = self.attempts[-1]
                last.ended, last.retry_in, last.cause = now, retry_in, type(cause)


@dataclass
class Stage:
    """A script, and everything that its attempts opened."""

    script: Sequence[Step]
    monitor: WatchedMonitor
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    endpoints: list[WatchedEndpoint] = field(default_factory=list)
    streams: list[WatchedStream] = field(default_factory=list)
    peers: int = 0

    def step(self) -> Step | None:
        """What this attempt meets; None past the end of the script."""
        number = len(self.monitor.attempts)
        return self.script[number - 1] if number <= len(self.script) else None

    async def open_endpoint(self) -> WatchedEndpoint:
        assert all(endpoint.closed for endpoint in self.endpoints)
        step = self.step()
        if step is not None and step.kind == "endpoint fails":
            await trio.sleep(step.after)
            raise SetupError("no endpoint today")
        self.endpoints.append(WatchedEndpoint())
        self.monitor.attempts[-1].opened += 1
        return self.endpoints[-1]

    def new_carrier(self) -> Carrier:
        assert all(stream.closed for stream in self.streams)
        assert self.peers == 0
        return StagedCarrier(self)


class StagedCarrier(Carrier):
    """Brings a stream with a peer at its other end that plays the step."""

    def __init__(self, stage: Stage) -> None:
        super().__init__("the peer")
        self._stage = stage

    async def open(self, start_soon: StartSoon) -> Stream:
        stage = self._stage
        step = stage.step()
        if step is None:
            stage.scope.cancel()
            await trio.sleep_forever()
            raise AssertionError("cancelled, or else for ever")
        if step.kind == "carrier fails":
            await trio.sleep(step.after)
            raise SetupError("no ssh today")
        ours, theirs = memory_stream_pair()
        stage.streams.append(WatchedStream(ours))
        start_soon(self._play, step, theirs)
        self.reached.set()
        return stage.streams[-1]

    async def _play(self, step: Step, stream: MemoryStream) -> None:
        self._stage.peers += 1
        try:
            if step.greets:
                await stream.send_all(encode_control(HELLO))
            with trio.move_on_after(step.after):
                await self._listen(stream, answers=step.greets)
            match step.kind:
                case "gone":
                    await self._stage.endpoints[-1].other.aclose()
                case "nonsense":
                    await stream.send_all(b"this is no block at all")
                case "silence":
                    # The silence begins after the last word.
                    await stream.send_all(encode_frames([b"the last word"], 100).data)
                case "stream ends":
                    await stream.send_eof()
                case _:
                    await stream.send_all(encode_control(Bye("enough")))
            await trio.sleep_forever()
        finally:
            self._stage.peers -= 1

    async def _listen(self, stream: MemoryStream, *, answers: bool) -> None:
        decoder = Decoder(Wire.V2)
        while data := await stream.receive_some(65536):
            blocks: list[Block] = []
            decoder.feed(bytes(data), blocks)
            for block in blocks:
                if isinstance(block, Ping) and answers:
                    await stream.send_all(encode_control(Pong(block.token)))
        await trio.sleep_forever()


@dataclass
class Seen:
    """What came of a script, after the end of it all."""

    stage: Stage
    raised: VknetError | None

    @property
    def attempts(self) -> list[Attempt]:
        return self.stage.monitor.attempts

    @property
    def states(self) -> list[State]:
        return self.stage.monitor.states


def perform(script: Sequence[Step], policy: RetryPolicy | None) -> Seen:
    """Run a script under the retry scope, until the policy gives up or the script is at its end."""

    async def main() -> Seen:
        stage = Stage(script, WatchedMonitor())
        seen = Seen(stage, None)
        with stage.scope:
            try:
                await keep_linked(
                    stage.open_endpoint,
                    stage.new_carrier,
                    policy,
                    LinkSettings(timeout=TIMEOUT),
                    monitor=stage.monitor,
                )
            except VknetError as exc:
                seen.raised = exc
        return seen

    return trio.run(main, clock=MockClock(autojump_threshold=0))


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


def no_carrier() -> Carrier:
    raise AssertionError("without an endpoint there is nothing to carry")


def cancelled_at(time: float) -> Stage:
    """A script of one long link and one failure, stopped at this time."""

    async def main() -> Stage:
        stage = Stage([Step("stream ends", 4.0), FAILS, FAILS], WatchedMonitor())
        with trio.move_on_after(time) as stopped:
            await keep_linked(
                stage.open_endpoint,
                stage.new_carrier,
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
