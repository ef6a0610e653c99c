"""The lines of ssh that were logged in this outage.

The same attempt is made again and again while a host is away, and ssh prints the same lines each
time.  Each is logged once, until a link is up.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["KnownLines"]

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
