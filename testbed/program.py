"""A running vknet, and what it says."""

from __future__ import annotations

import itertools
import signal
import subprocess
from typing import TYPE_CHECKING, Final

from testbed.host import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.host import Host

__all__ = ["Program"]

_numbers = itertools.count(1)

EXIT_WITHIN: Final = 15.0


class Program:
    """A program started on a host, with its stderr kept in a file.

    Args:
        host: where it runs.
        command: the program and its arguments.
        user: as whom; root if None.
        stdin: as for subprocess.Popen; nothing to read unless given.
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
        """All it has said so far."""
        return self._log.read_text(errors="replace")

    def says(self, text: str, times: int = 1, within: float = 30.0) -> str:
        """Wait until it has said this, so many times; the last line that has it.

        Raises:
            AssertionError: it did not, or it ended before; with all it said.
        """

        def check() -> bool:
            ended = self.process.poll() is not None
            return self.log.count(text) >= times or ended

        eventually(check, f'"{text}" from {" ".join(self.command)}; it said:\n{self.log}', within)
        lines = [line for line in self.log.splitlines() if text in line]
        if self.log.count(text) < times:
            raise AssertionError(f'it ended without saying "{text}" ({times}x):\n{self.log}')
        return lines[-1]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def status(self, within: float = EXIT_WITHIN) -> int:
        """Wait for its end; its exit status."""
        eventually(lambda: self.process.poll() is not None, f"the end of {self.command[0]}", within)
        return self.process.returncode

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.signal(signal.SIGTERM)
        return self.status()
