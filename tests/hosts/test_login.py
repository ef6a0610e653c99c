"""Between the start of ssh and the first frame: the login, and what the far side says meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from testbed.host import eventually
from testbed.program import Program

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.hosts import Bed

CLAIM = 'Authenticated to there ([198.18.0.2]:22) using "publickey".'


@pytest.fixture
def slow_login(bed: Bed) -> Path:
    """Let sshd wait in the login until this file exists; its banner says that it is over."""
    banner = bed.there.directory / "banner"
    banner.write_text(f"{CLAIM}\n")
    answered = bed.directory / "answered"
    keys = bed.there.home / ".ssh/authorized_keys"
    # sshd runs the command only if root owns it and all folders above it.
    command = "/run/sshd/keys"
    # As slow as a directory: sshd asks it for the keys.
    wait = f"touch {bed.directory}/asked; until [ -e {answered} ]; do sleep 0.1; done"
    script = bed.there.script("keys", f"{wait}; cat {keys}")
    bed.there.run("install", "-m755", script, command)
    bed.stop_sshd()
    bed.start_sshd(
        "AuthorizedKeysFile none",
        f"AuthorizedKeysCommand {command}",
        "AuthorizedKeysCommandUser root",
        f"Banner {banner}",
    )
    return answered


@pytest.mark.parametrize("options", [(), ("-e", "setpriv ssh", "-o", "LogLevel=QUIET")])
def test_frames_wait_for_the_login_and_not_for_what_a_banner_says(
    bed: Bed, slow_login: Path, options: tuple[str, ...]
) -> None:
    vknet = Program(bed.here, "vknet", "-v", "--wire", "1", *options, "auto", "there:auto")
    if not options:
        vknet.says(f"vknet: ssh: {CLAIM}")
    eventually((bed.directory / "asked").exists, "the login")
    assert "sending frames" not in vknet.log
    slow_login.touch()
    vknet.says("sending frames to there")
    vknet.says("link up: tap0 to there, wire v1")
    assert vknet.stop() == 0
    assert "Authenticated" not in vknet.log.replace(CLAIM, "")


def test_restricted_login_shell_runs_a_command_after_an_assignment(bed: Bed) -> None:
    passwd = bed.there.directory / "etc/passwd"
    lines = passwd.read_text().replace(":/bin/bash", f":{shutil.which('rbash')}")
    assert "rbash" in lines
    passwd.write_text(lines)
    vknet = Program(bed.here, "vknet", "--remote-command", "LANG=C vknet", "auto", "there:auto")
    vknet.says("link up")


def test_command_that_is_not_vknet_is_named(bed: Bed) -> None:
    vknet = Program(bed.here, "vknet", "--remote-command", "true", "auto", "there:auto")
    assert vknet.status() == 1
    assert '"true" on there ended without an answer; is it vknet?' in vknet.log


def test_unknown_jump_host_is_named_and_each_line_is_shown_once(bed: Bed) -> None:
    vknet = Program(bed.here, "vknet", "-J", "nosuch", "auto", "there:auto")
    assert vknet.status() == 1
    (line,) = vknet.log.splitlines()
    assert "check the jump host nosuch" in line
    assert line.count("Could not resolve hostname") == 1


def test_ssh_ignores_a_hangup_that_vknet_ignores(bed: Bed) -> None:
    vknet = Program(bed.here, "nohup", "vknet", "auto", "there:auto")
    vknet.says("link up")
    for pid in bed.here.processes():
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGUSR2)
    vknet.signal(signal.SIGUSR1)
    vknet.says("carried:")
    assert vknet.stop() == 0
    assert "link lost" not in vknet.log


def test_prompt_of_sudo_ends_the_attempt(bed: Bed) -> None:
    got = bed.directory / "got"
    sudo = bed.there.script("sudo", f"printf '[sudo] password for root: ' >&2; cat >{got}")
    vknet = Program(bed.here, "vknet", "--remote-command", f"{sudo} -S vknet", "auto", "there:auto")
    assert vknet.status() == 1
    assert r"NOPASSWD: /usr/local/bin/vknet -S -B wire\=2 auto" in vknet.log
    assert got.read_bytes() == b""
