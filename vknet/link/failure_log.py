"""What the log says about attempts that fail: each cause once, and then a summary now and then."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vknet.errors import VknetError

__all__ = ["FailureLog"]

log = logging.getLogger(__name__)

# The time from a line about an outage to its summary.  It doubles with each summary.
FIRST_SUMMARY_S: Final = 60.0
LAST_SUMMARY_S: Final = 86_400.0

# The number of causes of one outage that are remembered; a further one is logged each time.
CAUSES_MAX: Final = 100


class FailureLog:
    """Logs the failures of one sequence of links.

    An outage begins with the loss of a link or with the first attempt, and ends with the next link
    that is up.  A cause that was logged in this outage is not logged again.
    """

    def __init__(self) -> None:
        self._causes: set[str] = set()
        self._tries = 0
        self._began: float | None = None
        self._summary_at = 0.0
        self._summary_gap_s = FIRST_SUMMARY_S

    def lost(self, cause: VknetError, was_up: bool, then: str, now: float) -> None:
        """Log that a link was lost, or that it was not established.

        Args:
            cause: why.
            was_up: whether the link was up.
            then: what happens next; empty if that is nothing.
            now: the time in seconds, on a clock that does not jump.
        """
        then = f"; {then}" if then else ""
        if was_up or self._began is None:
            self._causes.clear()
            self._tries = 0
            self._began = time.time()
            self._summary_gap_s = FIRST_SUMMARY_S
        self._tries += not was_up
        # Causes that differ only in a number are the same: a port, a duration, a pid.
        key = re.sub(r"\d+", "0", str(cause))
        if was_up:
            self._said(now)
            log.warning("link lost: %s%s", cause, then)
        elif key not in self._causes:
            self._said(now)
            log.warning("no link: %s%s", cause, then)
            if len(self._causes) < CAUSES_MAX:
                self._causes.add(key)
        elif now >= self._summary_at:
            self._summary_gap_s = min(LAST_SUMMARY_S, 2 * self._summary_gap_s)
            self._said(now)
            log.warning(
                "no link: still the same after %d tries since %s: %s%s",
                self._tries,
                since(self._began),
                cause,
                then,
            )
        else:
            log.debug("no link: %s%s", cause, then)

    def ended(self, cause: VknetError, was_up: bool) -> None:
        """Log the failure after which there is no further attempt."""
        log.error("%s: %s", "link lost" if was_up else "no link", cause)

    def _said(self, now: float) -> None:
        self._summary_at = now + self._summary_gap_s


def since(began: float) -> str:
    """Return a time in local time, with the date unless it was today."""
    moment = time.localtime(began)
    today = moment[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", moment)
