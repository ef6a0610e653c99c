"""Two hosts become one Ethernet: endpoints, bridges, options, and the frames that cross it."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

import pytest

from testbed.hosts import Bed, eventually
from testbed.program import Program
from tests.support.lan import LAN6_THERE, LAN_HERE, LAN_THERE, Lan, transfer


def test_two_created_bridges_become_one_ethernet(bed: Bed) -> None:
    here, there = bed.here, bed.there
    vknet = Program(
        here, "vknet", "-r", "5", "-b", "bridge0", "-B", "bridge0", "auto", "myhomesystem:auto"
    )
    vknet.says("link up: tap0 to myhomesystem tap0, wire v2")
    for host, address in ((here, "198.18.1.1/24"), (there, "198.18.1.2/24")):
        assert host.link("tap0")["master"] == "bridge0"
        assert "UP" in host.link("bridge0")["flags"]
        host.ip("addr", "add", address, "dev", "bridge0")

    here.run("ping", "-n", "-c3", "-i0.1", "-W2", LAN_THERE)
    assert vknet.stop() == 0

    eventually(lambda: "tap0" not in there.interfaces(), "the end of the remote TAP")
    assert "tap0" not in here.interfaces()
    assert "bridge0" in here.interfaces(), "the bridge is kept"
    assert "bridge0" in there.interfaces()
    assert not here.processes("ssh")
    eventually(lambda: not there.processes("vknet -S"), "the end of the remote half")


def test_ipv4_ipv6_and_full_frames_cross(lan: Lan) -> None:
    lan.vknet().says("link up")
    for size in ("0", "1472"):
        lan.bed.here.run("ping", "-n", "-c2", "-i0.1", "-W2", "-Mdo", "-s", size, LAN_THERE)
    lan.bed.here.run("ping", "-n", "-c2", "-i0.1", "-W2", "-s", "1452", LAN6_THERE)


def test_jumbo_frames_cross_a_v2_link(lan: Lan) -> None:
    for host in (lan.bed.here, lan.bed.there):
        host.ip("link", "set", "bridge0", "mtu", "9000")
    lan.vknet("--mtu", "9000").says("link up")
    eventually(lambda: lan.bed.there.link("tap0")["mtu"] == 9000, "the same MTU of the remote TAP")
    lan.bed.here.run("ping", "-n", "-c2", "-i0.1", "-W2", "-Mdo", "-s", "8972", LAN_THERE)


def test_created_tap_takes_the_mtu_that_was_given_on_the_other_side(lan: Lan) -> None:
    vknet = lan.vknet("--remote-command", "vknet --mtu 1280")
    vknet.says("link up")
    eventually(lambda: lan.bed.here.link("tap0")["mtu"] == 1280, "the same MTU of the local TAP")
    assert "give both the same" not in vknet.log


def test_two_fixed_mtus_are_kept_and_named(lan: Lan) -> None:
    for host, mtu in ((lan.bed.here, "1400"), (lan.bed.there, "1300")):
        host.ip("tuntap", "add", "dev", "tap7", "mode", "tap")
        host.ip("link", "set", "tap7", "mtu", mtu)
    vknet = Program(lan.bed.here, "vknet", "tap7", "there:tap7")
    line = vknet.says("give both the same")
    assert "1400" in line
    assert "1300" in line
    assert lan.bed.here.link("tap7")["mtu"] == 1400
    assert lan.bed.there.link("tap7")["mtu"] == 1300


def test_vlan_tagged_frames_cross_unchanged(lan: Lan) -> None:
    lan.vknet().says("link up")
    lan.carries()
    there = lan.bed.there
    seen = there.directory / "seen"
    with seen.open("wb") as out:
        tcpdump = there.start(
            *("tcpdump", "-i", "bridge0", "-nn", "-e", "-l", "-c1", "vlan", "5"),
            stdout=out,
            stderr=out,
        )
    eventually(lambda: b"listening" in seen.read_bytes(), "tcpdump listening")
    send = (
        "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW);"
        "s.bind(('bridge0', 0)); s.send(bytes.fromhex(sys.argv[1]))"
    )
    # 802.1Q with priority 3 and VLAN 5, then an ARP message of zeros.
    frame = "ffffffffffff02000000000581006005" + "0806" + "00" * 46
    lan.bed.here.run("python", "-c", send, frame)
    tcpdump.wait(10)
    assert "vlan 5, p 3" in seen.read_text()


def test_ipv6_host_in_brackets_is_reached(bed: Bed) -> None:
    vknet = Program(bed.here, "vknet", "tap3", f"root@[{bed.THERE6}]:/dev/tap4")
    vknet.says(f"link up: tap3 to {bed.THERE6} tap4")
    assert "tap4" in bed.there.interfaces()
    assert vknet.stop() == 0


def test_interface_may_have_any_name(bed: Bed) -> None:
    vknet = Program(bed.here, "vknet", "tap:office", "there:tap:lab-0")
    vknet.says("link up: office to there lab-0")
    assert "office" in bed.here.interfaces()
    assert "lab-0" in bed.there.interfaces()


def test_two_links_use_the_first_unused_taps(bed: Bed) -> None:
    one, two = Lan(bed, "bridge1", 1), Lan(bed, "bridge2", 2)
    one.vknet().says("link up: tap0 to myhomesystem tap0")
    two.vknet().says("link up: tap1 to myhomesystem tap1")
    one.carries()
    two.carries()


def test_bridge_keeps_its_mac_address_when_a_tap_joins_and_when_vknet_restarts(bed: Bed) -> None:
    addresses = []
    for host in (bed.here, bed.there):
        host.ip("link", "add", "bridge0", "type", "bridge")
        host.ip("link", "add", "port0", "type", "veth", "peer", "name", "port1")
        host.ip("link", "set", "port0", "address", "02:00:00:00:00:07")
        host.ip("link", "set", "port0", "master", "bridge0")
        addresses.append(host.link("bridge0")["address"])
    first_run = Program(bed.here, "vknet", "-B", "bridge1", "auto", "there:auto")
    first_run.says("link up")
    before = bed.there.link("bridge1")["address"]
    assert first_run.stop() == 0
    both = Program(bed.here, "vknet", "-b", "bridge0", "-B", "bridge0", "auto", "there:auto")
    both.says("link up")
    assert [h.link("bridge0")["address"] for h in (bed.here, bed.there)] == addresses
    assert both.stop() == 0

    Program(bed.here, "vknet", "-B", "bridge1", "auto", "there:auto").says("link up")

    assert bed.there.link("bridge1")["address"] == before
    assert before != bed.here.link("tap0")["address"], "two hosts, two addresses"


def test_bridge_that_is_down_is_kept_down_with_a_warning(bed: Bed) -> None:
    bed.here.ip("link", "add", "bridge0", "type", "bridge")
    vknet = Program(bed.here, "vknet", "-b", "bridge0", "auto", "there:auto")
    vknet.says("link up")
    assert (
        "the bridge bridge0 is down; it carries nothing until: ip link set bridge0 up" in vknet.log
    )
    assert "UP" not in bed.here.link("bridge0")["flags"]
    assert bed.here.link("tap0")["master"] == "bridge0"


def test_compression_and_options_reach_ssh(bed: Bed) -> None:
    bed.stop_sshd()
    bed.start_sshd("Port 2222", "Port 22")
    vknet = Program(
        bed.here,
        *("vknet", "-vv", "-C", "-4", "-p", "2222", "-i", f"{bed.here.home}/.ssh/id_ed25519"),
        *("-o", "StrictHostKeyChecking=accept-new", "-o", "Ciphers=aes256-ctr"),
        *("auto", "there:auto"),
    )
    vknet.says("link up")
    assert "compression: zlib" in vknet.log or "zlib@openssh.com" in vknet.log
    assert "cipher: aes256-ctr" in vknet.log
    assert "port 2222" in vknet.log


def test_other_ssh_command_and_remote_command_are_used(bed: Bed) -> None:
    vknet = Program(
        bed.here,
        *("vknet", "-e", "ssh -p 22 -l root", "--remote-command", "env GREETING=hello vknet"),
        *("auto", "there:auto"),
    )
    vknet.says("link up")
    (pid, *_) = bed.there.processes("vknet -S")
    assert b"GREETING=hello" in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_stops_it_cleanly(bed: Bed, number: signal.Signals) -> None:
    vknet = Program(bed.here, "vknet", "-r", "1", "auto", "there:auto")
    vknet.says("link up")
    vknet.signal(number)
    assert vknet.status() == 0
    assert "Traceback" not in vknet.log
    assert bed.here.interfaces() == ["lo", "wan0"]
    eventually(lambda: bed.there.interfaces() == ["lo", "wan0"], "the end of the remote TAP")


def test_signal_before_the_link_is_up_stops_it_cleanly(bed: Bed) -> None:
    bed.black_hole(on=True)
    vknet = Program(bed.here, "vknet", "-v", "auto", "there:auto")
    vknet.says("running: ssh")
    assert vknet.stop() == 0
    assert not bed.here.processes("ssh")
    assert bed.here.interfaces() == ["lo", "wan0"]


def test_forced_command_chooses_the_endpoint_and_speaks_v2(bed: Bed) -> None:
    bed.authorize('restrict,command="vknet -S -b bridge9 tap:forced"')
    vknet = Program(bed.here, "vknet", "-B", "bridge0", "auto", "there:auto")
    vknet.says("link up: tap0 to there forced, wire v2")
    assert bed.there.link("forced")["master"] == "bridge9"
    assert "bridge0" not in bed.there.interfaces()


def test_user_without_privileges_uses_a_prepared_tap(bed: Bed) -> None:
    for host in (bed.here, bed.there):
        host.ip("link", "add", "bridge0", "type", "bridge")
        host.ip("link", "set", "bridge0", "up")
        # tap0 has no owner; tap1 is the first that belongs to alice.
        host.ip("tuntap", "add", "dev", "tap0", "mode", "tap")
        host.ip("tuntap", "add", "dev", "tap1", "mode", "tap", "user", "alice")
        host.ip("link", "set", "tap1", "up", "master", "bridge0")
    bed.here.ip("addr", "add", "198.18.1.1/24", "dev", "bridge0")
    bed.there.ip("addr", "add", "198.18.1.2/24", "dev", "bridge0")

    vknet = Program(
        bed.here,
        *("vknet", "-b", "bridge0", "-B", "bridge0", "auto", "alice@there:auto"),
        user="alice",
    )

    vknet.says("link up: tap1 to there tap1")
    bed.here.run("ping", "-n", "-c2", "-i0.1", "-W2", LAN_THERE)
    assert vknet.stop() == 0
    assert bed.here.link("tap1")["master"] == "bridge0", "an existing TAP stays in its bridge"


def test_large_transfer_arrives_unchanged(lan: Lan) -> None:
    lan.vknet().says("link up")
    lan.carries()
    data = bytes(range(256)) * 4096 * 20
    for source, sink in ((lan.bed.here, lan.bed.there), (lan.bed.there, lan.bed.here)):
        address = LAN_THERE if sink is lan.bed.there else LAN_HERE
        assert transfer(source, sink, address, data) == hashlib.sha256(data).hexdigest()
