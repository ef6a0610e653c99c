"""The lines of ssh and of the remote side on their way to the log.

A line waits for a moment.  If ssh ends meanwhile, the error that explains its end may quote the
line, and then the line is not logged as well.  Until a link is up, each line is logged once: the
same attempt is made again and again while a host is away.  While a prompt of ssh is open on the
terminal, lines wait until it has been answered.
"""

from __future__ import annotations

import logging
import math
import os
import re
import termios
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from vknet.transport.known_lines import KnownLines

__all__ = ["LineRelay", "Terminal"]

log = logging.getLogger(__name__)

# The time that a line waits for the end of ssh.
HOLD_S: Final = 0.5

# How often to look whether a prompt is still open.
PROMPT_POLL_S: Final = 0.1

# The limits on what is logged: lines per second, and lines that wait.
LINES_PER_S: Final = 100
WAITING_MAX: Final = 1000

# The index of the local modes in the result of termios.tcgetattr.
LOCAL_MODES: Final = 3


class Terminal:
    """The terminal on which ssh asks for passwords; without one, `exists` is false.

    Args:
        path: its name.
    """

    def __init__(self, path: str = "/dev/tty") -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    @property
    def exists(self) -> bool:
        """Whether this process has a terminal."""
        return self._fd >= 0

    def is_asking(self) -> bool:
        """Whether a program reads a password: it has turned the echo off."""
        if self._fd < 0:
            return False
        with suppress(termios.error):
            modes: int = termios.tcgetattr(self._fd)[LOCAL_MODES]
            return not modes & termios.ECHO
        return False

    def close(self) -> None:
        """Close it; it may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LineRelay:
    """Logs lines a moment after they came.

    Args:
        peer: the name in front of the message about lines that were left out.
        is_asking: whether a prompt is open.
        is_up: whether the link is up; then every line is news.
        known: the lines of the attempts before.
    """

    def __init__(
        self,
        peer: str,
        is_asking: Callable[[], bool],
        is_up: Callable[[], bool],
        known: KnownLines,
    ) -> None:
        self._is_up = is_up
        self._known = known
        self._peer = peer
        self._is_asking = is_asking
        self._waiting: deque[tuple[float, str]] = deque(maxlen=WAITING_MAX)
        self._arrived = trio.Event()
        self._quoted = ""
        self._follows: Callable[[str], bool] = lambda _line: False
        # The second for which lines are counted, by its start.
        self._second = -math.inf
        self._lines_in_second = 0

    def add(self, line: str) -> None:
        """Take a line; it is logged unless there were too many in this second."""
        now = trio.current_time()
        if now - self._second >= 1:
            if self._lines_in_second > LINES_PER_S:
                left_out = self._lines_in_second - LINES_PER_S
                self._waiting.append((now, f"{self._peer}: ({left_out} more lines)"))
            self._second, self._lines_in_second = now, 0
        self._lines_in_second += 1
        if self._lines_in_second <= LINES_PER_S:
            self._waiting.append((now, line))
            self._arrived.set()

    def leave_out(self, quoted: str, follows: Callable[[str], bool]) -> None:
        """Do not log the waiting lines that this text quotes, nor those that follow from it."""
        self._quoted = quoted
        self._follows = follows

    async def run(self) -> None:
        """Log lines until cancelled, and then all that still wait."""
        try:
            while True:
                while self._waiting:
                    await trio.sleep_until(self._waiting[0][0] + HOLD_S)
                    if self._is_asking():
                        await trio.sleep(PROMPT_POLL_S)
                    else:
                        self._log_next()
                self._arrived = trio.Event()
                await self._arrived.wait()
        finally:
            while self._waiting:
                self._log_next()

    def _log_next(self) -> None:
        _, line = self._waiting.popleft()
        _, _, text = line.partition(": ")
        quoted = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", self._quoted)
        if not quoted and not self._follows(text):
            is_news = self._is_up() or self._known.add(line)
            log.log(logging.WARNING if is_news else logging.DEBUG, "%s", line)
