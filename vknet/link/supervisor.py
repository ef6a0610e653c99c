"""Keep one local endpoint linked: run one link after the other.

The supervisor owns the endpoint, so the interface outlives the links, with its name, its index, its
addresses and its place in the bridge.  The endpoint is opened again only when it no longer exists.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from vknet.errors import EndpointGone, UsageError, VknetError
from vknet.link.link import Link
from vknet.monitor import Connecting, Lost, Monitor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vknet.endpoints.base import Endpoint
    from vknet.link.settings import LinkSettings
    from vknet.spec import RetryPolicy
    from vknet.transport.base import Transport

__all__ = ["keep_linked"]

log = logging.getLogger(__name__)

# A shorter delay would fill the log, and start ssh without a pause.
MIN_DELAY_S: Final = 0.1


async def keep_linked(
    open_endpoint: Callable[[], Awaitable[Endpoint]],
    new_transport: Callable[[], Transport],
    policy: RetryPolicy | None = None,
    settings: LinkSettings | None = None,
    *,
    monitor: Monitor | None = None,
) -> NoReturn:
    """Keep an endpoint linked until the policy allows no further attempt.

    Cancelling it ends the link and closes the endpoint.

    Args:
        open_endpoint: opens the local endpoint, at the start and whenever it no longer exists.  The
            endpoint is closed before this function returns.
        new_transport: returns the transport of the next link.
        policy: when to try again, after at least 0.1 s; None is never.  It counts the failures
            since the start or since the last link that was up.
        settings: the settings of each link.
        monitor: receives the state, and counts the traffic.

    Raises:
        UsageError: the arguments are not valid.  It is never retried.
        VknetError: the error that ended the last link or attempt.
    """
    monitor = monitor or Monitor()
    endpoint: Endpoint | None = None
    down_since = trio.current_time()
    failures = 0
    attempt = 1
    try:
        while True:
            monitor.set_state(Connecting(attempt))
            link: Link | None = None
            try:
                if endpoint is None:
                    endpoint = await open_endpoint()
                link = Link(
                    endpoint, new_transport(), settings, monitor=monitor, down_since=down_since
                )
                await link.run()
            except UsageError:
                raise
            except VknetError as exc:
                cause = exc
            if endpoint is not None and isinstance(cause, EndpointGone):
                await endpoint.aclose()
                endpoint = None
            was_up = link is not None and link.was_up
            if was_up:
                failures = attempt = 0
                down_since = trio.current_time()
            failures += 1
            attempt += 1
            what = "link lost" if was_up else "no link"
            if policy is None or (policy.retries is not None and failures > policy.retries):
                monitor.set_state(Lost(cause, None))
                log.error("%s: %s", what, cause)
                raise cause
            log.warning("%s: %s", what, cause)
            delay = max(policy.delay, MIN_DELAY_S)
            monitor.set_state(Lost(cause, delay))
            log.info("next try in %g s%s", delay, _count(failures, policy.retries))
            await trio.sleep(delay)
    finally:
        if endpoint is not None:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(endpoint)


def _count(failures: int, retries: int | None) -> str:
    return "" if retries is None else f" ({failures} of {retries})"
