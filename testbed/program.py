"""A program that runs on a host, and what it has written to stderr."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Final

from testbed.host import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.host import Host

__all__ = ["Program"]

_numbers = itertools.count(1)

# The time in front of a line of vknet and vknetd.
TIME: Final = re.compile(r"^[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d (?=vknetd?: )", re.MULTILINE)

EXIT_TIMEOUT_S: Final = 15.0


class Program:
    """A program on a host, with its stderr in a file.  The host kills it at its own end.

    Args:
        host: where it runs.
        command: the program and its arguments.
        user: who runs it; root if None.
        stdin: as for subprocess.Popen; /dev/null by default.

    Attributes:
        process: the process.
    """

    def __init__(
        self, host: Host, *command: str, user: str | None = None, stdin: int = subprocess.DEVNULL
    ) -> None:
        self.host = host
        self.command = command
        self._log: Path = host.directory / f"program-{next(_numbers)}.log"
        with self._log.open("wb") as stderr:
            self.process = host.start(*command, user=user, stdin=stdin, stderr=stderr)

    @property
    def log(self) -> str:
        """Everything that it has written so far, without the time in front of each line."""
        return TIME.sub("", self.timed_log)

    @property
    def timed_log(self) -> str:
        """Everything that it has written so far."""
        return self._log.read_text(errors="replace")

    def says(self, text: str, times: int = 1, within: float = 30.0) -> str:
        """Wait until the log contains a text; return the last line that contains it.

        Args:
            text: what to wait for.
            times: how often the log has to contain it.
            within: the deadline, in seconds from now.

        Raises:
            AssertionError: the deadline has passed, or the program has ended; the message has the
                log.
        """

        def check() -> bool:
            ended = self.process.poll() is not None
            return self.log.count(text) >= times or ended

        eventually(check, f'"{text}" from {" ".join(self.command)}; its log:\n{self.log}', within)
        lines = [line for line in self.log.splitlines() if text in line]
        if self.log.count(text) < times:
            raise AssertionError(f'it ended before it wrote "{text}" {times} times:\n{self.log}')
        return lines[-1]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def status(self, within: float = EXIT_TIMEOUT_S) -> int:
        """Wait for the end; return the exit status."""
        eventually(lambda: self.process.poll() is not None, f"the end of {self.command[0]}", within)
        return self.process.returncode

    def stop(self) -> int:
        """Send SIGTERM; return the exit status."""
        self.signal(signal.SIGTERM)
        return self.status()
