"""What the vknet command starts before its slow imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from vknet.cli import vknet as cli
from vknet.endpoints import isolated
isolated.prestart = print
import trio
trio.run = lambda *_: 0
sys.platform, *arguments = sys.argv[1:]
sys.argv = ["vknet", *arguments]
cli.main()
"""


def prestarted_for(*arguments: str, platform: str = "linux") -> str:
    """Return the modules that an isolated process was started for; "" if none was started."""
    command = [sys.executable, "-c", SCRIPT, platform, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("tap", ["tap0", "auto"])
def test_netlink_process_is_started_early_for_a_tap(tap: str) -> None:
    assert prestarted_for("-S", tap) == "vknet.endpoints.joining pyroute2\n"
    assert prestarted_for(tap, "host:tap0") == "vknet.endpoints.joining pyroute2\n"


def test_no_process_is_started_for_a_socket_or_on_another_system() -> None:
    assert not prestarted_for("-S", "/run/a.sock")
    assert not prestarted_for("-S", "tap0", platform="dragonfly")
