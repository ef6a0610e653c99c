"""The demo, interrupted or killed: it says one line, and its hosts and files are gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.hosts import REPOSITORY, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


def processes_of(directory: Path) -> list[str]:
    """Return the command lines of the processes whose environment or arguments name a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if bytes(directory) in command + environment:
                found.append(command.decode())
    return found


@contextmanager
def running_demo(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the demo as a terminal would; yield when its hosts are set up."""
    with (directory / "stdout").open("wb") as stdout, (directory / "stderr").open("wb") as stderr:
        demo = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=REPOSITORY,
            env={**os.environ, "TMPDIR": str(directory)},
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        eventually(lambda: b"one command" in (directory / "stdout").read_bytes(), "two hosts")
        yield demo
    finally:
        if demo.poll() is None:
            demo.kill()
        demo.wait()


def test_interrupted_demo_says_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        # As Ctrl-C does: to all processes of the terminal.
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(30) == 130
    message = (tmp_path / "stderr").read_text()
    assert message == "\ninterrupted; the hosts and their files are removed\n"
    assert not list(tmp_path.glob("vknet-bed-*"))
    assert processes_of(tmp_path) == []


def test_killed_demo_leaves_nothing(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        assert list(tmp_path.glob("vknet-bed-*"))
        demo.kill()
        demo.wait()
    eventually(lambda: not list(tmp_path.glob("vknet-bed-*")), "the end of the directory")
    eventually(lambda: processes_of(tmp_path) == [], "the end of all processes")
