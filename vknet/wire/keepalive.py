"""When a peer counts as dead, and when to ask whether it lives.  Pure: the time is handed in.

Theory.  Any byte from the peer is a sign of life.  A PING is due when nothing has come for a third
of the timeout, so that a quiet peer has to answer; and also when nothing has been *sent* for as
long, so that the peer hears from us even while its own PINGs are stuck behind megabytes of its own
bulk data that ssh has swallowed.  Either side alone keeps both sure of each other.

A process that was itself stopped (SIGSTOP, a starved machine) must not take its own sleep for the
peer's silence: when a check comes much later than it was asked for, what may be waiting in the
pipe gets another third of the timeout to be read.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DEFAULT_TIMEOUT", "Keepalive"]

DEFAULT_TIMEOUT: Final = 15.0
"""Seconds: long enough for a path that fails over, short enough for a person who waits."""

PINGS_PER_TIMEOUT: Final = 3


class Keepalive:
    """One peer's signs of life.

    Args:
        now: the time, in seconds of any monotonic clock.
        timeout: seconds of silence that mean death.
        peer_timeout: the same on the other side, so that it is asked often enough for both.
    """

    def __init__(self, now: float, timeout: float, peer_timeout: float | None = None) -> None:
        self._timeout = timeout
        self._interval = min(timeout, peer_timeout or timeout) / PINGS_PER_TIMEOUT
        self._heard = now
        self._sent = now
        self._pinged = now
        self._due = now

    def on_received(self, now: float) -> None:
        """Bytes came from the peer."""
        self._heard = now

    def on_sent(self, now: float) -> None:
        """Bytes went to the peer."""
        self._sent = now

    def silence(self, now: float) -> float:
        """Seconds since the peer was last heard."""
        return now - self._heard

    def ping_due(self, now: float) -> bool:
        """Whether a PING should be sent now; asking for one counts as sending it."""
        if now < self._quiet_since() + self._interval:
            return False
        self._pinged = now
        return True

    def is_dead(self, now: float) -> bool:
        """Whether the peer has been silent for too long.  To be called at `next_check` or so."""
        overslept = now - self._due > self._interval
        self._due = now
        if now < self._heard + self._timeout:
            return False
        if overslept:
            self._heard = now - self._timeout + self._interval
            return False
        return True

    def next_check(self, now: float) -> float:
        """When to ask `is_dead` and `ping_due` again."""
        # The very sums that are compared with later: rounded otherwise, a check that comes when it
        # was asked for could find nothing to do, and ask for the same moment again.
        ping = self._quiet_since() + self._interval
        self._due = max(now, min(ping, self._heard + self._timeout))
        return self._due

    def _quiet_since(self) -> float:
        return max(min(self._heard, self._sent), self._pinged)
