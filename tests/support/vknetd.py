"""A vknetd process without a TAP, which needs no root privileges, and clients of it."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from testbed.hosts import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VKNETD", "Vknetd", "client", "receive", "running"]

VKNETD: Final = (sys.executable, "-c", "from vknet.cli.vknetd import main; main()")

DIE_WITH_PARENT: Final = ("setpriv", "--pdeathsig", "KILL")

# The time for an answer, and for a process to end.
TIMEOUT_S: Final = 20

_log_numbers = itertools.count(1)


class Vknetd:
    """A process with its socket and its log.

    As a context manager it waits until the process is ready.  The process is killed in the end, if
    it does not become ready, and if this process dies.

    Args:
        directory: of the socket and the log.
        options: more options of vknetd.
        settings: more arguments of `subprocess.Popen`.
    """

    def __init__(self, directory: Path, *options: str, **settings: Any) -> None:
        self.path = directory / "vknet"
        self._log = directory / f"vknetd-{next(_log_numbers)}.log"
        with self._log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [
                    *DIE_WITH_PARENT,
                    *VKNETD,
                    "-d",
                    "-v",
                    "-t",
                    "none",
                    "-p",
                    str(self.path),
                    *options,
                ],
                stderr=stderr,
                **settings,
            )

    @property
    def log(self) -> str:
        """Everything that it has logged."""
        return self._log.read_text()

    def __enter__(self) -> Vknetd:
        try:
            self.wait_for_log("ready")
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._kill()

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait_for_log(self, text: str, times: int = 1) -> None:
        """Wait until it has logged this text; fail if the process ends without."""

        def is_decided() -> bool:
            return self.log.count(text) >= times or self.process.poll() is not None

        eventually(is_decided, f'"{text}" in:\n{self.log}')
        assert self.log.count(text) >= times, self.log

    def status(self) -> dict[str, Any]:
        """Return the answer of the control socket, which may be that of a moment ago."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.connect(f"{self.path}.ctl")
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        result: dict[str, Any] = json.loads(answer)
        return result

    def wait_for_clients(self, number: int) -> dict[str, Any]:
        """Wait until the status has this number of clients, and return it.

        The daemon reuses an answer for a moment, and answers that it is busy while too many ask.
        """

        def status_with_clients() -> dict[str, Any] | None:
            status = self.status()
            return status if status.get("clients") == number else None

        status = eventually(status_with_clients, f"a status with {number} clients")
        assert status is not None
        return status

    def port(self, number: int) -> dict[str, Any]:
        """Return the status of client `number`, in the order of connection, counted from 1."""
        found: dict[str, Any]
        (found,) = [p for p in self.status()["ports"] if p["name"] == f"client{number}"]
        return found

    def descriptors(self) -> int:
        """Return the number of open descriptors of the process."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self) -> int:
        """Stop it by SIGTERM; return the exit status."""
        self.process.terminate()
        return self.process.wait(TIMEOUT_S)


@contextmanager
def running(directory: Path, *options: str, **settings: Any) -> Iterator[Vknetd]:
    """Run a vknetd, which must exit with status 0 when it is stopped in the end."""
    with Vknetd(directory, *options, **settings) as daemon:
        yield daemon
        assert daemon.stop() == 0, daemon.log


@contextmanager
def client(daemon: Vknetd) -> Iterator[socket.socket]:
    """Connect a client, and wait until the switch has logged it."""
    before = daemon.log.count(" connected: ")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect(str(daemon.path))
        daemon.wait_for_log(" connected: ", before + 1)
        yield sock


def receive(sock: socket.socket) -> bytes:
    """Return the next frame; b"" when the switch has disconnected."""
    return sock.recv(70_000)
