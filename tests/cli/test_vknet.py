"""What the command prepares before it has imported what takes long."""

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


def prepared_for(*arguments: str, platform: str = "linux") -> str:
    command = [sys.executable, "-c", SCRIPT, platform, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("tap", ["tap0", "auto"])
def test_netlink_is_loaded_aside_for_a_tap(tap: str) -> None:
    assert prepared_for("-S", tap) == "vknet.endpoints.netlink pyroute2\n"
    assert prepared_for(tap, "host:tap0") == "vknet.endpoints.netlink pyroute2\n"


def test_nothing_is_loaded_aside_where_there_is_no_need_of_it() -> None:
    assert not prepared_for("-S", "/run/a.sock")
    assert not prepared_for("-S", "tap0", platform="dragonfly")
