"""Keep one local endpoint linked: run one link after the other.

The supervisor owns the endpoint, so the interface outlives the links, with its name, its index, its
addresses and its place in the bridge.  The endpoint is opened again only when it no longer exists.

The delay between two attempts doubles with each failure (`vknet.link.backoff`).  It begins with the
first delay again after a link that lasted, and after a change of this host
(`vknet.link.host_changes`), which also ends the current delay.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from vknet.counters import DropReason
from vknet.errors import EndpointGone, UsageError, VknetError
from vknet.link.backoff import Backoff, Failure
from vknet.link.failure_log import FailureLog
from vknet.link.link import Link
from vknet.monitor import Connecting, Lost, Monitor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vknet.endpoints.base import Endpoint
    from vknet.link.host_changes import HostChanges
    from vknet.link.settings import LinkSettings
    from vknet.spec import RetryPolicy
    from vknet.transport.base import Transport

__all__ = ["keep_linked"]

log = logging.getLogger(__name__)

# A link that was up for a shorter time does not end the growth of the delay: the other side may
# fail each time right after its start.
LASTING_LINK_S: Final = 2.0

# The time that addresses and routes get to settle after a change.
SETTLE_S: Final = 1.0


async def keep_linked(
    open_endpoint: Callable[[], Awaitable[Endpoint]],
    new_transport: Callable[[], Transport],
    policy: RetryPolicy | None = None,
    settings: LinkSettings | None = None,
    *,
    monitor: Monitor | None = None,
    changes: HostChanges | None = None,
) -> NoReturn:
    """Keep an endpoint linked until the policy allows no further attempt.

    Cancelling it ends the link and closes the endpoint.

    Args:
        open_endpoint: opens the local endpoint, at the start and whenever it no longer exists.  The
            endpoint is closed before this function returns.
        new_transport: returns the transport of the next link.
        policy: when to try again; None is never.  The retries are counted since the start or since
            the last link that was up.
        settings: the settings of each link.
        monitor: receives the state, and counts the traffic.
        changes: ends the delay before an attempt early when this host changes; None does not.

    Raises:
        UsageError: the arguments are not valid.  It is never retried.
        VknetError: the error that ended the last link or attempt.
    """
    supervisor = _Supervisor(
        open_endpoint, new_transport, policy, settings, monitor or Monitor(), changes
    )
    try:
        await supervisor.run()
    finally:
        await supervisor.close_endpoint()


class _Supervisor:
    """The state of one call of `keep_linked`; its arguments are explained there."""

    def __init__(
        self,
        open_endpoint: Callable[[], Awaitable[Endpoint]],
        new_transport: Callable[[], Transport],
        policy: RetryPolicy | None,
        settings: LinkSettings | None,
        monitor: Monitor,
        changes: HostChanges | None,
    ) -> None:
        self._open_endpoint = open_endpoint
        self._new_transport = new_transport
        self._policy = policy
        self._settings = settings
        self._monitor = monitor
        self._changes = changes
        self._endpoint: Endpoint | None = None
        self._down_since = trio.current_time()
        self._waiting = DropReason.EARLY
        # Of the last link; None if it was never up.
        self._lasted_s: float | None = None

    async def run(self) -> NoReturn:
        """Run one link after the other."""
        failure_log = FailureLog()
        backoff = Backoff(0 if self._policy is None else self._policy.delay)
        last_change = float("-inf")
        failures = 0
        attempt = 1
        while True:
            self._monitor.set_state(Connecting(attempt))
            if self._changes is not None:
                self._changes.clear()
            cause = await self._run_link()
            kind = self._kind(cause)
            was_up = self._lasted_s is not None
            if was_up:
                failures = attempt = 0
                self._down_since = trio.current_time()
                self._waiting = DropReason.STALE
                if self._changes is not None:
                    self._changes.clear()
            if self._lasted_s is not None and self._lasted_s >= LASTING_LINK_S:
                backoff.reset()
            failures += 1
            attempt += 1
            retries = None if self._policy is None else self._policy.retries
            if self._policy is None or (retries is not None and failures > retries):
                self._monitor.set_state(Lost(cause, None))
                failure_log.ended(cause, was_up)
                raise cause
            # The traceback would keep the frames of the link, and with them the link, its buffers
            # and its transport, until the garbage collector finds the cycle.
            _forget_tracebacks(cause)
            delay = backoff.next_delay(kind)
            self._monitor.set_state(Lost(cause, delay))
            count = "" if retries is None else f" ({failures} of {retries})"
            then = f"next try in {round(delay, 1 if delay >= 1 else 2):.12g} s{count}"
            failure_log.lost(cause, was_up, then, trio.current_time())
            # Routers, containers and roaming change the network again and again.  One change in
            # each longest delay is enough.
            if await self._pause(delay, last_change + kind.value):
                last_change = trio.current_time()
                if kind is not Failure.REFUSAL:
                    backoff.reset()

    async def _run_link(self) -> VknetError:
        """Run one link, and open the endpoint first if there is none; return why it ended."""
        self._lasted_s = None
        link: Link | None = None
        try:
            if self._endpoint is None:
                self._endpoint = await self._open_endpoint()
            link = Link(
                self._endpoint,
                self._new_transport(),
                self._settings,
                monitor=self._monitor,
                down_since=self._down_since,
                waiting=self._waiting,
            )
            await link.run()
        except UsageError:
            raise
        except VknetError as exc:
            cause = exc
        if link is not None and link.up_since is not None:
            self._lasted_s = trio.current_time() - link.up_since
        if isinstance(cause, EndpointGone):
            await self.close_endpoint()
        return cause

    def _kind(self, cause: VknetError) -> Failure:
        if self._endpoint is None:
            return Failure.LOCAL
        return Failure.REFUSAL if cause.refused else Failure.OUTAGE

    async def _pause(self, delay: float, not_before: float) -> bool:
        """Wait before the next attempt; return whether a change of this host ended the wait.

        Args:
            delay: seconds.
            not_before: the earliest time at which a change may end the wait.
        """
        with trio.move_on_after(delay) as scope:
            if self._changes is None:
                await trio.sleep_forever()
            else:
                change = await self._changes.wait()
                await trio.sleep_until(max(trio.current_time() + SETTLE_S, not_before))
                log.info("trying again now: %s", change)
        return not scope.cancelled_caught

    async def close_endpoint(self) -> None:
        """Close the endpoint, if it is open; it is never cancelled half-way."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(endpoint)


def _forget_tracebacks(exc: BaseException | None) -> None:
    """Remove the tracebacks of an exception and of those that led to it."""
    while exc is not None:
        exc.__traceback__ = None
        exc = exc.__cause__ or exc.__context__
