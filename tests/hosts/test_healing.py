"""Failures of every part of a link: it reconnects, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.hosts import Bed, Host, eventually
from testbed.program import Program
from tests.support.one_client_switch import OneClientSwitch
from vknet.link.supervisor import LASTING_LINK_S

if TYPE_CHECKING:
    from tests.support.lan import Lan

# Short times, so that the tests are short.
QUICK_RETRY = ("-r", "0.2", "--timeout", "2")


def up(lan: Lan, *options: str) -> Program:
    """Start vknet between the bridges, and wait until a ping is answered."""
    vknet = lan.vknet(*(options or QUICK_RETRY))
    vknet.says("link up")
    lan.carries()
    return vknet


def ssh_of(host: Host) -> int:
    """Return the pid of the only ssh of a host."""
    (pid,) = host.processes("-x -T -e none")
    return pid


def test_tap_keeps_its_settings_when_ssh_is_killed(lan: Lan) -> None:
    vknet = up(lan)
    here = lan.bed.here
    here.ip("addr", "add", "198.18.9.9/24", "dev", "tap0")
    index = here.link("tap0")["ifindex"]

    os.kill(ssh_of(here), signal.SIGKILL)
    vknet.says("link lost: ssh was killed by SIGKILL")
    vknet.says("next try in 0.2 s")
    vknet.says("link up", times=2)
    lan.carries()

    tap = here.link("tap0")
    assert tap["ifindex"] == index
    assert tap["master"] == "bridge0"
    assert "198.18.9.9" in here.ip("addr", "show", "dev", "tap0")
    assert lan.bed.there.interfaces().count("tap0") == 1


def test_sigterm_to_ssh_is_named_as_the_cause(lan: Lan) -> None:
    vknet = up(lan, "-v")
    os.kill(ssh_of(lan.bed.here), signal.SIGTERM)
    assert vknet.status() == 1
    assert "vknet: link lost: ssh was killed by SIGTERM" in vknet.log.splitlines()
    assert "Killed by signal" not in vknet.log


def test_first_loss_ends_vknet_without_a_retry_option(lan: Lan) -> None:
    vknet = up(lan, "-v")
    os.kill(ssh_of(lan.bed.here), signal.SIGKILL)
    assert vknet.status() == 1
    assert "tap0" not in lan.bed.here.interfaces()
    assert vknet.log.splitlines()[-2] == "vknet: link lost: ssh was killed by SIGKILL"


def test_link_heals_after_sshd_was_killed_and_restarted(lan: Lan) -> None:
    vknet = up(lan)
    lan.bed.stop_sshd()
    vknet.says("link lost")
    vknet.says("no sshd answers on myhomesystem")
    lan.bed.start_sshd()
    vknet.says("link up", times=2)
    lan.carries()


def test_link_heals_after_the_remote_half_is_killed(lan: Lan) -> None:
    vknet = up(lan)
    (pid,) = lan.bed.there.processes("vknet -S")
    os.kill(pid, signal.SIGKILL)
    vknet.says("link lost")
    vknet.says("link up", times=2)
    lan.carries()


def test_link_heals_after_the_remote_half_is_stopped(lan: Lan) -> None:
    vknet = up(lan)
    (pid,) = lan.bed.there.processes("vknet -S")
    os.kill(pid, signal.SIGTERM)
    vknet.says("link lost: myhomesystem ended the link: it was stopped")
    vknet.says("link up", times=2)


def test_both_sides_notice_a_path_that_loses_every_packet(lan: Lan) -> None:
    vknet = up(lan)
    lan.bed.black_hole(on=True)
    vknet.says("link lost: myhomesystem has fallen silent")
    eventually(lambda: not lan.bed.there.processes("vknet -S"), "the end of the remote half")
    assert "tap0" not in lan.bed.there.interfaces()
    vknet.says("no link")
    lan.bed.black_hole(on=False)
    vknet.says("link up", times=2)
    lan.carries()


def test_suspended_remote_half_is_replaced_and_ends_when_resumed(lan: Lan) -> None:
    vknet = up(lan)
    (pid,) = lan.bed.there.processes("vknet -S")
    os.kill(pid, signal.SIGSTOP)
    vknet.says("link lost: myhomesystem has fallen silent")
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: pid not in lan.bed.there.processes("vknet -S"), "the first remote half gone")
    vknet.says("link up", times=2)
    lan.carries()


def test_link_heals_after_vknet_was_suspended_and_resumed(lan: Lan) -> None:
    vknet = up(lan)
    vknet.signal(signal.SIGSTOP)
    eventually(lambda: not lan.bed.there.processes("vknet -S"), "the end of the remote half")
    vknet.signal(signal.SIGCONT)
    vknet.says("link up", times=2)
    lan.carries()


def test_link_survives_a_short_suspension(lan: Lan) -> None:
    vknet = up(lan, "-r", "0.2", "--timeout", "6")
    (pid,) = lan.bed.there.processes("vknet -S")
    os.kill(pid, signal.SIGSTOP)
    assert not lan.answers()
    os.kill(pid, signal.SIGCONT)
    lan.carries()
    assert "lost" not in vknet.log


def test_deleted_tap_ends_the_link_and_is_created_again(lan: Lan) -> None:
    vknet = up(lan)
    lan.bed.here.ip("link", "del", "tap0")
    vknet.says("link lost: the interface tap0 was deleted")
    vknet.says("link up", times=2)
    lan.carries()
    assert lan.bed.here.link("tap0")["master"] == "bridge0"


def test_deleted_remote_tap_is_named_as_the_cause(lan: Lan) -> None:
    vknet = up(lan)
    lan.bed.there.ip("link", "del", "tap0")
    vknet.says("link lost: myhomesystem ended the link: the interface tap0 was deleted")
    vknet.says("link up", times=2)
    lan.carries()


def test_deleted_tap_ends_vknet_without_a_retry_option(bed: Bed) -> None:
    vknet = Program(bed.here, "vknet", "auto", "there:auto")
    vknet.says("link up")
    bed.here.ip("link", "del", "tap0")
    assert vknet.status() == 1
    assert vknet.log.splitlines()[-2] == "vknet: link lost: the interface tap0 was deleted"


def test_link_survives_an_interface_that_is_down(lan: Lan) -> None:
    vknet = up(lan)
    lan.bed.here.ip("link", "set", "tap0", "down")
    eventually(
        lambda: lan.answers() or "tap0 is down" in vknet.log, "a frame for a TAP that is down"
    )
    vknet.says("tap0 is down; frames for it are dropped until: ip link set tap0 up")
    lan.bed.here.ip("link", "set", "tap0", "up")
    lan.carries()
    vknet.says("tap0 is up again")
    assert "lost" not in vknet.log


def test_deleted_bridge_is_created_again_and_joined(lan: Lan) -> None:
    vknet = up(lan)
    lan.bed.here.ip("link", "del", "bridge0")
    vknet.says("the bridge bridge0 was deleted")
    vknet.says("put tap0 back in the bridge bridge0")
    assert lan.bed.here.link("tap0")["master"] == "bridge0"
    lan.bed.here.ip("addr", "add", "198.18.1.1/24", "dev", "bridge0")
    lan.carries()
    assert "lost" not in vknet.log


def test_link_heals_after_the_switch_restarts(bed: Bed) -> None:
    path = bed.directory / "switch"
    frame = bytes.fromhex("ffffffffffff0200000000010800") + b"hello from the switch" * 3
    with OneClientSwitch(path) as switch:
        vknet = Program(bed.here, "vknet", *QUICK_RETRY, str(path), "there:auto")
        switch.accept()
        vknet.says(f"link up: {path} to there tap0")
    vknet.says(f"{path}: the switch closed the connection")
    vknet.says(f"{path}: no program listens there; is vknetd running?")
    with OneClientSwitch(path) as switch:
        client = switch.accept()
        vknet.says("link up", times=2)
        seen = bed.there.directory / "seen"
        with seen.open("wb") as out:
            tcpdump = bed.there.start(
                *("tcpdump", "-i", "tap0", "-nn", "-A", "-l", "-c1", "ether src 02:00:00:00:00:01"),
                stdout=out,
                stderr=out,
            )
        eventually(lambda: b"listening" in seen.read_bytes(), "tcpdump listening")
        client.send(frame)
        tcpdump.wait(10)
        assert b"hello from the switch" in seen.read_bytes()


def test_switch_that_sends_invalid_frames_loses_only_those(bed: Bed) -> None:
    one, two = bed.directory / "one", bed.directory / "two"
    good = bytes(range(60))
    with OneClientSwitch(one) as here, OneClientSwitch(two) as there:
        vknet = Program(bed.here, "vknet", *QUICK_RETRY, str(one), f"there:{two}")
        client, other = here.accept(), there.accept()
        vknet.says("link up")
        client.send(b"")
        client.send(bytes(70_000))
        client.send(good)
        assert other.recv(100_000) == good
        assert "lost" not in vknet.log


def test_switch_that_stops_reading_loses_only_its_frames(bed: Bed) -> None:
    one, two = bed.directory / "one", bed.directory / "two"
    with OneClientSwitch(one) as here, OneClientSwitch(two) as there:
        vknet = Program(bed.here, "vknet", *QUICK_RETRY, str(one), f"there:{two}")
        client, other = here.accept(), there.accept()
        vknet.says("link up")
        # Far more than all buffers on the way hold, and for longer than the timeout.
        started, sent = time.monotonic(), 0
        while sent < 40_000 or time.monotonic() - started < 3:
            client.send(bytes(1400))
            sent += 1
        assert "lost" not in vknet.log

        marker = bytes(range(100))
        other.setblocking(False)

        def marker_arrives() -> bool:
            client.send(marker)
            with contextlib.suppress(BlockingIOError):
                while True:
                    if other.recv(2000) == marker:
                        return True
            return False

        eventually(marker_arrives, "a frame after it reads again")
        assert "lost" not in vknet.log
        (half,) = bed.there.processes("vknet -S")
        os.kill(half, signal.SIGUSR1)
        assert "dropped (endpoint-full)" in vknet.says("carried:")


def test_sigkill_leaves_nothing_on_either_side(lan: Lan) -> None:
    vknet = up(lan)
    vknet.signal(signal.SIGKILL)
    assert vknet.status() == -signal.SIGKILL
    here, there = lan.bed.here, lan.bed.there
    eventually(lambda: not here.processes("ssh"), "the end of ssh")
    eventually(lambda: not there.processes("vknet -S"), "the end of the remote half")
    assert "tap0" not in here.interfaces()
    eventually(lambda: "tap0" not in there.interfaces(), "the end of the remote TAP")


def test_sigkill_leaves_nothing_on_a_path_that_loses_every_packet(lan: Lan) -> None:
    vknet = up(lan)
    lan.bed.black_hole(on=True)
    vknet.signal(signal.SIGKILL)
    here, there = lan.bed.here, lan.bed.there
    eventually(lambda: not here.processes("ssh"), "the end of ssh", within=10)
    eventually(lambda: not there.processes("vknet -S"), "the end of the remote half", within=10)
    assert "tap0" not in there.interfaces()


def test_unsuitable_ssh_config_has_no_effect_on_the_link(lan: Lan) -> None:
    here = lan.bed.here
    control = here.home / ".ssh/control"
    (here.home / ".ssh/config").write_text(
        "Host *\n ControlMaster auto\n"
        f" ControlPath {control}\n"
        " ControlPersist 60\n RequestTTY force\n RemoteCommand uptime\n"
        " LocalForward 7777 localhost:7777\n Tunnel ethernet\n ForwardX11 yes\n"
        " StdinNull yes\n ForkAfterAuthentication yes\n SessionType none\n"
        " PermitLocalCommand yes\n LocalCommand echo local noise\n EscapeChar ~\n"
    )
    vknet = up(lan)
    assert not control.exists()
    assert ":7777" not in here.output("ss", "-ltn")
    assert vknet.stop() == 0
    eventually(lambda: not here.processes("ssh"), "the end of every ssh")


@pytest.mark.parametrize("times", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_restarts_leak_nothing(lan: Lan, times: int) -> None:
    vknet = lan.vknet("-r", "0", "--timeout", "5")
    vknet.says("link up")
    here, there = lan.bed.here, lan.bed.there
    proc = Path(f"/proc/{vknet.process.pid}")

    def counts() -> dict[str, int]:
        return {
            "descriptors": len(list((proc / "fd").iterdir())),
            "threads": len(list((proc / "task").iterdir())),
            "processes here": len(here.processes()),
            "TAPs here": len([n for n in here.interfaces() if n.startswith("tap")]),
            "TAPs there": len([n for n in there.interfaces() if n.startswith("tap")]),
            "remote halves": len(there.processes("vknet -S")),
        }

    def restart(times: int) -> None:
        for number in range(times):
            if number % 5 == 4:
                # Only a link that lasts ends the growth of the delay.
                time.sleep(LASTING_LINK_S)
            ups = vknet.log.count("link up")
            os.kill(ssh_of(here), signal.SIGKILL)
            vknet.says("link up", times=ups + 1)

    restart(2)
    before = counts()
    restart(times)
    eventually(lambda: counts()["threads"] <= before["threads"], "idle threads ending")

    def leaks_nothing() -> bool:
        # Right after a restart, a helper process may still be there.
        now = counts()
        return all(now[name] <= before[name] for name in before)

    eventually(leaks_nothing, f"{counts()}, no more than {before}", within=15)
    lan.carries()
