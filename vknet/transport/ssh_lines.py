"""Which lines of ssh are logged, and when: each once in an outage.

The same attempt is made again and again while a host is away, and ssh prints the same lines each
time.  And the error of an attempt usually quotes the last line of ssh, so that line is held back
until it is known whether the error does.
"""

from __future__ import annotations

import logging
import re
from typing import Final

__all__ = ["HOLD_S", "KnownLines", "LineLog"]

log = logging.getLogger(__name__)

HOLD_S: Final = 0.3
"""The time for which a line is held back.  ssh prints its last error right before it exits."""

# The number of lines of one outage that are remembered.
KNOWN_MAX: Final = 200


class KnownLines:
    """The lines that were logged since the last link that was up."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def add(self, line: str) -> bool:
        """Remember a line; return whether it is new.

        Lines that differ only in numbers are the same.
        """
        key = re.sub(r"\d+", "0", line)
        if key in self._known:
            return False
        if len(self._known) < KNOWN_MAX:
            self._known.add(key)
        return True

    def clear(self) -> None:
        """Forget all lines."""
        self._known.clear()


class LineLog:
    """Logs the lines of one ssh.

    Args:
        peer: the name in front of each line.
        known: the lines of the attempts before.
    """

    def __init__(self, peer: str, known: KnownLines) -> None:
        self._peer = peer
        self._known = known
        self._held: str | None = None

    @property
    def holds_line(self) -> bool:
        """Whether a line is held back; the caller calls `release` after `HOLD_S`."""
        return self._held is not None

    def add(self, line: str, *, at_once: bool = False) -> None:
        """Hold a line back, or log it at once: while the link is up, each line is news."""
        self.release()
        if at_once:
            log.warning("%s: %s", self._peer, line)
        else:
            self._held = line

    def release(self) -> None:
        """Log the line that is held back."""
        line, self._held = self._held, None
        if line is not None:
            level = logging.WARNING if self._known.add(line) else logging.DEBUG
            log.log(level, "%s: %s", self._peer, line)

    def quoted(self, error: str) -> None:
        """Drop the line that is held back, if this error quotes it."""
        if self._held is not None and self._held in error:
            self._held = None
