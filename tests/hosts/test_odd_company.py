"""Peers, ssh commands, terminals and administrators with unexpected behaviour."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest

from testbed.hosts import Bed, eventually
from testbed.program import Program

if TYPE_CHECKING:
    from tests.support.lan import Lan


def test_small_mtu_of_a_peer_leaves_the_bridge_its_ipv6_addresses(lan: Lan) -> None:
    vknet = lan.vknet("--remote-command", "vknet --mtu 576")
    vknet.says(
        "tap0 has an MTU of 1500, and tap0 on myhomesystem has an MTU of 576; give both the same"
    )
    assert lan.bed.here.link("tap0")["mtu"] == 1500
    assert "fd00:1::1/64" in lan.bed.here.ip("addr", "show", "dev", "bridge0")


def test_renamed_tap_is_put_back_in_its_bridge(lan: Lan) -> None:
    vknet = lan.vknet("-r", "0.2")
    vknet.says("link up")
    here = lan.bed.here
    here.ip("link", "set", "tap0", "down")
    here.ip("link", "set", "tap0", "name", "lan7")
    here.ip("link", "set", "lan7", "up")
    here.ip("link", "add", "tap0", "type", "veth", "peer", "name", "tap0p")
    here.ip("link", "del", "bridge0")
    vknet.says("back in the bridge")
    assert here.link("lan7")["master"] == "bridge0"
    assert "master" not in here.link("tap0"), "an unrelated interface that now has the old name"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_further_signals_while_it_ends_leave_no_ssh_behind(
    bed: Bed, number: signal.Signals
) -> None:
    stubborn = bed.here.script("stubborn", 'trap "" TERM HUP INT; sleep 60 <&- & wait; sleep 60')
    vknet = Program(bed.here, "vknet", "-v", "-e", stubborn, "auto", "there:auto")
    eventually(lambda: bed.here.processes(f"bash {stubborn}"), "an ssh that never ends")
    vknet.signal(number)
    vknet.says("stopped by")
    vknet.signal(number)
    vknet.signal(number)
    assert vknet.status() == 0
    assert not bed.here.processes(f"bash {stubborn}")
    assert bed.here.interfaces() == ["lo", "wan0"]


def test_end_of_ssh_is_noticed_while_a_child_holds_its_pipes(bed: Bed) -> None:
    leaver = bed.here.script("leaver", "sleep 20 & exit 3")
    vknet = Program(bed.here, "vknet", "-r", "0.1:1", "-e", leaver, "auto", "there:auto")
    assert vknet.status() == 1
    assert vknet.log.count(f"{leaver}, or vknet on there, ended with status 3") == 2
    assert "Traceback" not in vknet.log


def test_ssh_wrapper_is_called_once_with_the_whole_command(bed: Bed) -> None:
    calls = bed.directory / "calls"
    wrapper = bed.here.script("wrapper", f'echo "$*" >>{calls}; exec ssh "$@"')
    Program(bed.here, "vknet", "-e", wrapper, "auto", "there:auto").says("link up")
    (call,) = calls.read_text().splitlines()
    assert call.endswith("-- there vknet -S -B wire=2 auto")


def test_unread_stderr_blocks_neither_frames_nor_signals(lan: Lan) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    try:
        while True:
            os.write(write_end, bytes(4096))
    except BlockingIOError:
        os.set_blocking(write_end, True)
    (lan.bed.there.home / ".bashrc").write_text("for i in {1..3000}; do echo chatter >&2; done\n")
    vknet = lan.bed.here.start(
        *("vknet", "-v", "-b", "bridge0", "-B", "bridge0", "auto", "there:auto"), stderr=write_end
    )
    lan.carries()
    vknet.terminate()
    assert vknet.wait(10) == 0
    os.close(read_end)
    os.close(write_end)


def test_long_output_of_the_remote_side_is_truncated(bed: Bed) -> None:
    (bed.there.home / ".bashrc").write_text(
        r"printf 'odd \e[31m line\n' >&2; for i in {1..3000}; do echo chatter >&2; done"
    )
    vknet = Program(bed.here, "vknet", "auto", "there:auto")
    vknet.says("link up")
    assert r"vknet: there: odd \x1b[31m line" in vknet.log
    assert vknet.stop() == 0
    assert vknet.log.count("there: chatter") <= 300


def test_sigusr1_to_every_process_of_a_unit_leaves_the_link_up(lan: Lan) -> None:
    vknet = lan.vknet()
    lan.carries()
    # Like `systemctl kill -s USR1`.
    pids = lan.bed.here.processes()
    assert len(pids) >= 2
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    vknet.says("carried:")
    lan.carries()
    assert vknet.stop() == 0
    assert "link lost" not in vknet.log


# Sends a frame through tap0, like a station on the local LAN.
SEND_FRAME: Final = """\
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap:
    tap.bind(("tap0", 0))
    tap.send(bytes.fromhex(sys.argv[1]))
"""


@pytest.mark.parametrize("shell", ["bash", "dash", "python3 -i"])
def test_shell_on_the_remote_side_gets_no_frame(bed: Bed, shell: str) -> None:
    pwned = bed.directory / "pwned"
    (bed.there.home / ".bashrc").write_text(f"tee {bed.directory}/stdin | {shell}\n")
    vknet = Program(bed.here, "vknet", "-v", "auto", "there:auto")
    vknet.says("waiting for vknet on there")
    frame = b"\xff" * 6 + bytes(6) + b"\x88\xb5\n" + f"touch {pwned}\n".encode()
    for _ in range(20):
        bed.here.run(sys.executable, "-c", SEND_FRAME, frame.hex())
        time.sleep(0.05)
    assert (bed.directory / "stdin").read_bytes() == b""
    assert not pwned.exists()
    assert vknet.stop() == 0


def test_ignored_signals_stay_ignored(bed: Bed) -> None:
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "os.execvp('vknet', ['vknet', '-r', '1', 'auto', 'there:auto'])"
    )
    vknet = Program(bed.here, sys.executable, "-c", ignoring)
    vknet.says("link up")
    vknet.signal(signal.SIGHUP)
    vknet.signal(signal.SIGUSR1)
    vknet.says("carried:")
    assert "stopped" not in vknet.log
    assert vknet.stop() == 0
