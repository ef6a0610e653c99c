"""The state and the counters of a link, for a program that watches it.

`keep_linked` passes one `Monitor` to each of its links, so the counters go on over all of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import trio

from vknet.counters import Counters, DropReason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from vknet.endpoints.base import Endpoint
    from vknet.errors import VknetError

__all__ = [
    "Connecting",
    "Idle",
    "Lost",
    "Monitor",
    "State",
    "Up",
]


@dataclass(frozen=True, slots=True)
class Idle:
    """No link has been started yet."""


@dataclass(frozen=True, slots=True)
class Connecting:
    """A link is being established.

    Attributes:
        attempt: the number of this attempt since the start or since the last link that was up,
            from 1.
    """

    attempt: int


@dataclass(frozen=True, slots=True)
class Up:
    """The link carries frames.

    Attributes:
        peer: the name of the peer.
        wire: the wire version in use, 1 or 2.
        endpoint: the name of the local endpoint.
        peer_endpoint: the name of the peer's endpoint; None on v1, which does not tell it.
        took: seconds from the start of the attempt until the link was up.
    """

    peer: str
    wire: int
    endpoint: str
    peer_endpoint: str | None
    took: float

    @property
    def summary(self) -> str:
        """One line with all of it, for people."""
        peer = self.peer if self.peer_endpoint is None else f"{self.peer} {self.peer_endpoint}"
        return f"{self.endpoint} to {peer}, wire v{self.wire}, after {self.took:.2f} s"


@dataclass(frozen=True, slots=True)
class Lost:
    """The link ended, or could not be established.

    Attributes:
        cause: the error that ended it.
        retry_in: seconds until the next attempt at the latest; None if there will be none.
    """

    cause: VknetError
    retry_in: float | None


State: TypeAlias = Idle | Connecting | Up | Lost
S = TypeVar("S", Idle, Connecting, Up, Lost)


class Monitor:
    """The state and the counters of one link, or of a sequence of links."""

    def __init__(self) -> None:
        self._state: State = Idle()
        self._changed = trio.Event()
        self._link_counters = Counters()
        self._endpoint: Endpoint | None = None
        # The endpoint's drops before `watch_endpoint`: received, sent.
        self._drops_before: tuple[Counter[DropReason], Counter[DropReason]] = Counter(), Counter()
        self.round_trip: float | None = None
        """Seconds from the last PING to its PONG, the peer's queues included; None before."""

    @property
    def state(self) -> State:
        """The current state."""
        return self._state

    def set_state(self, state: State) -> None:
        """Set the state; only the link and `keep_linked` call it."""
        self._state = state
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for(self, kind: type[S]) -> S:
        """Wait until the state is of this kind, and return it; immediately if it already is."""
        while not isinstance(self._state, kind):
            await self._changed.wait()
        return self._state

    async def changes(self) -> AsyncGenerator[State, None]:
        """Iterate over the current state and the following ones.

        A reader that is slower than the changes misses the states in between, but not the last one.
        """
        while True:
            seen = self._state
            changed = self._changed
            yield seen
            if self._state is seen:
                await changed.wait()

    @property
    def counters(self) -> Counters:
        """A snapshot of the traffic and the drops so far, the endpoint's own drops included."""
        total = Counters(self._link_counters.outbound.copy(), self._link_counters.inbound.copy())
        if self._endpoint is not None:
            received, sent = self._drops_before
            total.outbound.drops += self._endpoint.receive_drops - received
            total.inbound.drops += self._endpoint.send_drops - sent
        return total

    @property
    def link_counters(self) -> Counters:
        """The counters that the link adds to, without the endpoint's own drops."""
        return self._link_counters

    def watch_endpoint(self, endpoint: Endpoint) -> None:
        """Count the drops of this endpoint from now on; those of the one before are kept."""
        if endpoint is not self._endpoint:
            self._link_counters = self.counters
            self._endpoint = endpoint
            self._drops_before = Counter(endpoint.receive_drops), Counter(endpoint.send_drops)
