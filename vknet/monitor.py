"""What a link is doing, for whoever watches: its state and its counters.

One `Monitor` can outlive many links: the retry scope hands the same one to each.
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
        attempt: 1 for the first since the program started or since a link was last up.
    """

    attempt: int


@dataclass(frozen=True, slots=True)
class Up:
    """Frames are being carried.

    Attributes:
        peer: whom the link leads to.
        wire: the version of the wire in use, 1 or 2.
        endpoint: the local endpoint.
        peer_endpoint: the other side's endpoint; None where the peer does not say (v1).
        took: seconds from the start of the attempt to now.
    """

    peer: str
    wire: int
    endpoint: str
    peer_endpoint: str | None
    took: float

    @property
    def summary(self) -> str:
        """All of it, in a line for people."""
        there = self.peer if self.peer_endpoint is None else f"{self.peer} {self.peer_endpoint}"
        return f"{self.endpoint} to {there}, wire v{self.wire}, after {self.took:.2f} s"


@dataclass(frozen=True, slots=True)
class Lost:
    """The link ended, or could not be established.

    Attributes:
        cause: why.
        retry_in: seconds until the next attempt; None where there will be none.
    """

    cause: VknetError
    retry_in: float | None


State: TypeAlias = Idle | Connecting | Up | Lost
S = TypeVar("S", Idle, Connecting, Up, Lost)


class Monitor:
    """The state and the counters of one link, or of the links that follow each other."""

    def __init__(self) -> None:
        self._state: State = Idle()
        self._changed = trio.Event()
        self._counted = Counters()
        self._endpoint: Endpoint | None = None
        self._dropped_before: tuple[Counter[DropReason], Counter[DropReason]] = Counter(), Counter()
        self.round_trip: float | None = None
        """Seconds the last PING took to come back, in the peer's queues as well; None before."""

    @property
    def state(self) -> State:
        """What the link is doing now."""
        return self._state

    def set_state(self, state: State) -> None:
        """Say what the link is doing now; for the link and the retry scope."""
        self._state = state
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for(self, kind: type[S]) -> S:
        """Wait until the state is of this kind, and return it; at once if it already is."""
        while not isinstance(self._state, kind):
            await self._changed.wait()
        return self._state

    async def changes(self) -> AsyncGenerator[State, None]:
        """The state now, and then each new one; a slow reader misses those in between."""
        while True:
            seen = self._state
            changed = self._changed
            yield seen
            if self._state is seen:
                await changed.wait()

    @property
    def counters(self) -> Counters:
        """What has been carried and dropped so far: a snapshot, endpoint's drops included."""
        total = Counters(self._counted.outbound.copy(), self._counted.inbound.copy())
        if self._endpoint is not None:
            received, sent = self._dropped_before
            total.outbound.drops += self._endpoint.receive_drops - received
            total.inbound.drops += self._endpoint.send_drops - sent
        return total

    @property
    def link_counters(self) -> Counters:
        """The counters the link adds to; the endpoint's own drops are not in them."""
        return self._counted

    def watch_endpoint(self, endpoint: Endpoint) -> None:
        """From now on the drops of this endpoint count; what the one before dropped is kept."""
        if endpoint is not self._endpoint:
            self._counted = self.counters
            self._endpoint = endpoint
            self._dropped_before = Counter(endpoint.receive_drops), Counter(endpoint.send_drops)
