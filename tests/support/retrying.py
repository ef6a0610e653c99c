"""A test bed for `keep_linked`: scripts of events for its attempts, a model, and observations.

Every time in a script is a multiple of 1/8 s.  Sums of them are exact, so an observation must equal
the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from unittest.mock import patch

import trio
from trio.testing import MockClock, memory_stream_pair

from tests.support.blocks import feed
from vknet import (
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
    Transport,
    Up,
    VknetError,
    Wire,
    keep_linked,
    memory_endpoint_pair,
)
from vknet.framing import (
    Bye,
    Ping,
    Pong,
    encode_control,
    encode_frames,
)
from vknet.transport.base import AdaptedStream
from vknet.wire.decoder import Decoder
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.blocks import Item
    from tests.support.links import MemoryStream
    from vknet.link.host_changes import HostChanges
    from vknet.transport.base import ByteStream, StartSoon

TIMEOUT_S: Final = 3.0
# A link that was up for a shorter time counts as one that was never up.
LASTING_LINK_S: Final = 2.0
# Of virtual time: much longer than any script takes.
DEADLINE_S: Final = 86_400.0
PEER_HELLO: Final = Hello("peer", "peer0", 65664, None, mtu_fixed=False, timeout=TIMEOUT_S)

Kind: TypeAlias = Literal[
    "endpoint fails", "transport fails", "farewell", "stream ends", "silence", "nonsense", "gone"
]


@dataclass(frozen=True)
class Step:
    """The event that ends one attempt.

    Attributes:
        kind: the event.  "endpoint fails" applies only if an endpoint has to be opened; with one
            that is still open it means "farewell".
        after: seconds until the event; a silence is noticed one timeout later.
        greets: whether the peer sends a HELLO first, so that the link is up until the event.
    """

    kind: Kind
    after: float = 1.0
    greets: bool = True


@dataclass
class Attempt:
    """One attempt, observed or expected."""

    began: float
    came_up: bool = False
    ended: float | None = None
    retry_in: float | None = None
    cause: type[VknetError] | None = None
    opened: int = 0
    """The number of endpoints opened since the start."""


CAUSES: Final[dict[Kind, type[VknetError]]] = {
    "endpoint fails": SetupError,
    "transport fails": SetupError,
    "farewell": PeerGone,
    "stream ends": PeerGone,
    "silence": PeerGone,
    "nonsense": RemoteProtocolError,
    "gone": EndpointGone,
}


def model(script: Sequence[Step], policy: RetryPolicy | None) -> list[Attempt]:
    """Return the expected attempts, and the one after the script if the policy allows it."""
    attempts: list[Attempt] = []
    now, failures, opened, have_endpoint = 0.0, 0, 0, False
    last_delay = 0.0
    for step in script:
        kind = "farewell" if step.kind == "endpoint fails" and have_endpoint else step.kind
        opened += not have_endpoint and kind != "endpoint fails"
        came_up = step.greets and kind not in ("endpoint fails", "transport fails")
        ended = now + step.after + (TIMEOUT_S if kind == "silence" else 0)
        failures = 1 if came_up else failures + 1
        gives_up = policy is None or (policy.retries is not None and failures > policy.retries)
        if came_up and ended - now >= LASTING_LINK_S:
            last_delay = 0.0
        delay = None
        if policy is not None and not gives_up:
            limit = max(limit_of(kind), policy.delay)
            delay = last_delay = min(limit, 2 * last_delay) if last_delay else policy.delay
        attempts.append(Attempt(now, came_up, ended, delay, CAUSES[kind], opened))
        have_endpoint = kind not in ("endpoint fails", "gone")
        if delay is None:
            return attempts
        now = ended + delay
    return [*attempts, Attempt(now, opened=opened + (not have_endpoint))]


def limit_of(kind: Kind) -> float:
    """Return the longest delay after this event."""
    match kind:
        case "endpoint fails" | "gone":
            return 10.0
        case "nonsense":
            return 300.0
        case _:
            return 60.0


# --- the test bed ---------------------------------------------------------------------------------


class WatchedEndpoint(MemoryEndpoint):
    """A memory endpoint that records whether it was closed, and holds the other end."""

    def __init__(self) -> None:
        inner, self.other = memory_endpoint_pair()
        super().__init__(inner.name, inner._inbox, inner._outbox, None)
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()


class WatchedStream(trio.abc.HalfCloseableStream):
    """A stream that records whether it was closed."""

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
    """A monitor that records the states, and the attempts that they make up."""

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
class ScriptBed:
    """A script, and everything that its attempts opened."""

    script: Sequence[Step]
    monitor: WatchedMonitor
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    endpoints: list[WatchedEndpoint] = field(default_factory=list)
    streams: list[WatchedStream] = field(default_factory=list)
    peers: int = 0

    def step(self) -> Step | None:
        """Return the step of this attempt; None after the end of the script."""
        number = len(self.monitor.attempts)
        return self.script[number - 1] if number <= len(self.script) else None

    async def open_endpoint(self) -> WatchedEndpoint:
        assert all(endpoint.closed for endpoint in self.endpoints)
        step = self.step()
        if step is not None and step.kind == "endpoint fails":
            await trio.sleep(step.after)
            raise SetupError("the endpoint cannot be opened")
        self.endpoints.append(WatchedEndpoint())
        self.monitor.attempts[-1].opened += 1
        return self.endpoints[-1]

    def new_transport(self) -> Transport:
        assert all(stream.closed for stream in self.streams)
        assert self.peers == 0
        return ScriptedTransport(self)


class ScriptedTransport(Transport):
    """Opens a stream to a peer that plays the step of this attempt."""

    def __init__(self, bed: ScriptBed) -> None:
        super().__init__("the peer")
        self._bed = bed

    async def open(self, start_soon: StartSoon) -> ByteStream:
        bed = self._bed
        step = bed.step()
        if step is None:
            bed.scope.cancel()
            await trio.sleep_forever()
            raise AssertionError("unreachable: the sleep ends only when it is cancelled")
        if step.kind == "transport fails":
            await trio.sleep(step.after)
            raise SetupError("the transport cannot be opened")
        ours, theirs = memory_stream_pair()
        bed.streams.append(WatchedStream(ours))
        start_soon(self._play, step, theirs)
        self.reached.set()
        return AdaptedStream(bed.streams[-1])

    async def _play(self, step: Step, stream: MemoryStream) -> None:
        self._bed.peers += 1
        try:
            if step.greets:
                await stream.send_all(encode_control(PEER_HELLO))
            with trio.move_on_after(step.after):
                await self._listen(stream, answers=step.greets)
            match step.kind:
                case "gone":
                    await self._bed.endpoints[-1].other.aclose()
                case "nonsense":
                    await stream.send_all(b"these bytes are not a block")
                case "silence":
                    # The silence begins after this frame.
                    await stream.send_all(encode_frames([b"the last frame"], 100).data)
                case "stream ends":
                    await stream.send_eof()
                case _:
                    await stream.send_all(encode_control(Bye("enough")))
            await trio.sleep_forever()
        finally:
            self._bed.peers -= 1

    async def _listen(self, stream: MemoryStream, *, answers: bool) -> None:
        decoder = Decoder(Wire.V2)
        while data := await stream.receive_some(65536):
            blocks: list[Item] = []
            feed(decoder, bytes(data), blocks)
            for block in blocks:
                if isinstance(block, Ping) and answers:
                    await stream.send_all(encode_control(Pong(block.token)))
        await trio.sleep_forever()


@dataclass
class Observed:
    """The observations of a script after its end."""

    bed: ScriptBed
    raised: VknetError | None

    @property
    def attempts(self) -> list[Attempt]:
        return self.bed.monitor.attempts

    @property
    def states(self) -> list[State]:
        return self.bed.monitor.states


def perform(
    script: Sequence[Step],
    policy: RetryPolicy | None,
    changes: Callable[[], HostChanges] | None = None,
) -> Observed:
    """Run a script under `keep_linked`, until the policy gives up or the script ends."""

    async def main() -> Observed:
        bed = ScriptBed(script, WatchedMonitor())
        observed = Observed(bed, None)
        with trio.fail_after(DEADLINE_S), bed.scope:
            try:
                await keep_linked(
                    bed.open_endpoint,
                    bed.new_transport,
                    policy,
                    LinkSettings(timeout=TIMEOUT_S),
                    monitor=bed.monitor,
                    changes=None if changes is None else changes(),
                )
            except VknetError as exc:
                observed.raised = exc
        return observed

    # Without a random part, the delays equal those of the model.
    with patch("vknet.link.backoff.part", return_value=1.0):
        return trio.run(main, clock=MockClock(autojump_threshold=0))
