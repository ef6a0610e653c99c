"""A vknetd that really runs, without a TAP and so without root, and clients of it."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from testbed.hosts import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["VKNETD", "Vknetd", "client", "frame", "mac", "receive", "running"]

VKNETD = (sys.executable, "-c", "from vknet.cli.vknetd import main; main()")

_numbers = itertools.count(1)

EVERYBODY = b"\xff" * 6


def mac(number: int) -> bytes:
    return b"\x02\x00" + number.to_bytes(4, "big")


def frame(destination: bytes, source: bytes, payload: bytes = b"") -> bytes:
    return destination + source + b"\x88\xb5" + payload.ljust(46, b".")


class Vknetd:
    """The process, its socket, and what it said."""

    def __init__(self, directory: Path, *options: str, **settings: Any) -> None:
        self.path = directory / "vknet"
        self._log = directory / f"vknetd-{next(_numbers)}.log"
        with self._log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*VKNETD, "-d", "-v", "-t", "none", "-p", str(self.path), *options],
                stderr=stderr,
                **settings,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def __enter__(self) -> Vknetd:
        self.says("ready")
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()

    def says(self, text: str, times: int = 1) -> None:
        def check() -> bool:
            return self.log.count(text) >= times or self.process.poll() is not None

        eventually(check, f'"{text}" in:\n{self.log}')
        assert self.log.count(text) >= times, self.log

    def status(self) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(f"{self.path}.ctl")
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        result: dict[str, Any] = json.loads(answer)
        return result

    def port(self, number: int) -> dict[str, Any]:
        """The status of the client that came as this one, counted from 1."""
        found: dict[str, Any]
        (found,) = [p for p in self.status()["ports"] if p["name"] == f"client{number}"]
        return found

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


@contextmanager
def running(directory: Path, *options: str, **settings: Any) -> Iterator[Vknetd]:
    """A vknetd that is ready; it has to end well."""
    with Vknetd(directory, *options, **settings) as daemon:
        yield daemon
        assert daemon.stop() == 0, daemon.log


@contextmanager
def client(daemon: Vknetd) -> Iterator[socket.socket]:
    """A client that the switch has taken in."""
    before = daemon.log.count(" came: ")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(20)
        sock.connect(str(daemon.path))
        daemon.says(" came: ", before + 1)
        yield sock


def receive(sock: socket.socket) -> bytes:
    """The next frame; b"" at the end."""
    return sock.recv(70000)
