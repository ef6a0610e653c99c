"""Tracebacks of Python in the output of the remote side, as one line each.  Pure."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["TracebackFilter"]

HEADER: Final = "Traceback (most recent call last):"

# The location of a SyntaxError in the main program has no header before it.
LOCATION: Final = re.compile(r'\s+File "(.*)", line \d+')
PYTHON: Final = re.compile(r"python(\d\.\d+)")

# Before and between the tracebacks of a chain.
LINKS: Final = ("During handling of ", "The above exception ", HEADER)

# The last line of a traceback; "bash: a message" of another program is none.  Within an exception
# group, a frame of "|" precedes it.
RAISED: Final = re.compile(
    r"(?:[ |+]*\| )?((?:[A-Za-z_][\w.]*)?(?:Error|Exception|Exit|Interrupt|Warning)(?:: .*)?)"
)
GROUP_ENDS: Final = re.compile(r"\s*\+-{20,}")


class TracebackFilter:
    """Replaces a traceback by its last line, the one that names the exception.

    Attributes:
        raised: the last such line; None before.
        python: the version of Python that a traceback showed; None if none did.
    """

    def __init__(self) -> None:
        self.raised: str | None = None
        self.python: str | None = None
        self._inside = False
        self._found: str | None = None

    def feed(self, line: str) -> str | None:
        """Return the line to show in place of this one; None for none."""
        location = LOCATION.match(line.lstrip("|"))
        if not self._inside:
            if line.startswith(LINKS[:2]):
                return None
            if HEADER not in line and location is None:
                return line
            self._inside = True
            self._found = None
        if version := PYTHON.search(line):
            self.python = version[1]
        if GROUP_ENDS.fullmatch(line):
            return self._end() if self._found is not None else None
        framed = line.startswith((" ", "|", "+"))
        match = RAISED.fullmatch(line)
        if not framed and line and not line.startswith(LINKS):
            if match is not None:
                self._found = match[1]
            # A line of another program that came between, if it is not the last one.
            return self._end() or line
        if match is not None and HEADER not in line:
            self._found = match[1]
        return None

    def _end(self) -> str | None:
        self._inside = False
        found, self._found = self._found, None
        if found is not None:
            self.raised = found
        return found
