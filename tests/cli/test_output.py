"""Output that cannot be written: one line says so, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(command: str, redirection: str) -> subprocess.CompletedProcess[str]:
    """Run a command of vknet in a shell, with its stdout redirected."""
    module, _, argument = command.partition(" ")
    code = f"from vknet.cli.{module} import main; main()"
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {argument} {redirection}', sys.executable, code],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["vknet --help", "vknet --version", "vknetd --help"])
def test_full_disk_is_one_line(command: str) -> None:
    done = run(command, ">/dev/full")
    name = command.split()[0]
    assert done.stderr == f"{name}: cannot write to stdout: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["vknet --help", "vknet --version", "vknetd --help"])
@pytest.mark.parametrize("redirection", [">&-", "| true"])
def test_closed_stdout_is_no_error(command: str, redirection: str) -> None:
    assert run(command, redirection).stderr == ""
