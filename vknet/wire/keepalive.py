"""When a peer counts as dead, and when to ask it for a sign of life.  Pure: the time is handed in.

Theory.  Any byte from the peer is a sign of life.  A PING is due when nothing was received for a
third of the timeout, so that a quiet peer has to answer.  It is also due when nothing was *sent*
for as long, so that the peer hears from this side even while its own PINGs wait behind megabytes of
its bulk data inside ssh.  Either side alone keeps both sure of each other.

A process that was stopped itself (SIGSTOP, a busy machine) must not take its own pause for the
peer's silence: when a check comes much later than requested, data that waits in the pipe gets
another third of the timeout to be read.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DEFAULT_TIMEOUT_S", "Keepalive"]

DEFAULT_TIMEOUT_S: Final = 15.0
"""Long enough for a path that fails over, short enough for a person who waits."""

PINGS_PER_TIMEOUT: Final = 3


class Keepalive:
    """The signs of life of one peer.

    Args:
        now: the time, in seconds of any monotonic clock.
        timeout: seconds of silence that mean death.
        peer_timeout: the same on the other side, so that PINGs are frequent enough for both.
    """

    def __init__(self, now: float, timeout: float, peer_timeout: float | None = None) -> None:
        self._timeout = timeout
        self._interval = min(timeout, peer_timeout or timeout) / PINGS_PER_TIMEOUT
        self._received_at = now
        self._sent_at = now
        self._pinged_at = now
        self._due_at = now

    def on_received(self, now: float) -> None:
        """Note that bytes came from the peer."""
        self._received_at = now

    def on_sent(self, now: float) -> None:
        """Note that bytes went to the peer."""
        self._sent_at = now

    def silence(self, now: float) -> float:
        """Return the seconds since the last byte from the peer."""
        return now - self._received_at

    def ping_due(self, now: float) -> bool:
        """Whether a PING is due now; the caller then sends one."""
        if now < self._quiet_since() + self._interval:
            return False
        self._pinged_at = now
        return True

    def is_dead(self, now: float) -> bool:
        """Whether the peer has been silent for too long.  Call it when `next_check` says."""
        overslept = now - self._due_at > self._interval
        self._due_at = now
        if now < self._received_at + self._timeout:
            return False
        if overslept:
            self._received_at = now - self._timeout + self._interval
            return False
        return True

    def next_check(self, now: float) -> float:
        """Return when to ask `is_dead` and `ping_due` again."""
        # The same sums are compared with later.  Rounded otherwise, a check at the requested time
        # could find nothing to do, and request the same time again.
        ping = self._quiet_since() + self._interval
        self._due_at = max(now, min(ping, self._received_at + self._timeout))
        return self._due_at

    def _quiet_since(self) -> float:
        return max(min(self._received_at, self._sent_at), self._pinged_at)
