"""A vknet of 2008 as the remote half, and as the client."""

from __future__ import annotations

import sys
from typing import Final

from testbed.hosts import REPOSITORY, Bed, eventually
from testbed.program import Program
from tests.support.lan import LAN6_THERE, LAN_THERE, Lan

PEER: Final = str(REPOSITORY / "tests/support/peer_2008.py")


def test_client_links_with_a_remote_half_of_2008(lan: Lan) -> None:
    vknet = lan.vknet("--remote-command", f"{sys.executable} {PEER}")
    lan.carries()
    vknet.says("link up: tap0 to myhomesystem, wire v1")
    lan.bed.here.run("ping", "-n", "-c2", "-i0.1", "-W2", "-Mdo", "-s", "1472", LAN_THERE)
    lan.bed.here.run("ping", "-n", "-c2", "-i0.1", "-W2", "-s", "1452", LAN6_THERE)
    assert vknet.stop() == 0
    eventually(lambda: "tap0" not in lan.bed.there.interfaces(), "the end of the remote TAP")
    assert "not v1" not in vknet.log, "the peer received v1 only"


def test_remote_half_links_with_a_client_of_2008(lan: Lan) -> None:
    client = Program(
        lan.bed.here,
        *(sys.executable, PEER, "-b", "bridge0", "-B", "bridge0", "auto", "there:auto"),
    )
    eventually(lambda: "tap0" in lan.bed.there.interfaces(), "the TAP of the remote half")
    lan.carries()
    lan.bed.here.run("ping", "-n", "-c2", "-i0.1", "-W2", "-Mdo", "-s", "1472", LAN_THERE)
    assert lan.bed.there.link("tap0")["master"] == "bridge0"
    client.process.terminate()
    client.status()
    eventually(lambda: "tap0" not in lan.bed.there.interfaces(), "the end of the remote TAP")
    assert "not v1" not in client.log


def test_frame_too_long_for_2008_is_dropped_and_counted(lan: Lan) -> None:
    for host in (lan.bed.here, lan.bed.there):
        host.ip("link", "set", "bridge0", "mtu", "9000")
    vknet = lan.vknet("--mtu", "9000", "--remote-command", f"{sys.executable} {PEER}")
    lan.carries()
    vknet.says("frames over 8320 bytes are dropped; an MTU of 8302 would fit")
    lan.bed.there.ip("link", "set", "tap0", "mtu", "9000")

    longest = lan.bed.here.run("ping", "-n", "-c1", "-W2", "-Mdo", "-s", "8278", LAN_THERE)
    assert " 0% packet loss" in longest.stdout
    over = ("ping", "-n", "-c1", "-W0.3", "-Mdo", "-s", "8279", LAN_THERE)
    assert lan.bed.here.run(*over, check=False).returncode == 1
    lan.carries()
    assert vknet.stop() == 0
    assert "1 dropped (over-peer-limit)" in vknet.log


def test_quiet_peer_of_2008_needs_wire_1(bed: Bed) -> None:
    here, there = bed.here, bed.there
    # Without IPv6 the host sends no frame by itself.
    there.run("sysctl", "-q", "net.ipv6.conf.all.disable_ipv6=1")
    there.run("sysctl", "-q", "net.ipv6.conf.default.disable_ipv6=1")
    remote = ("--remote-command", f"{sys.executable} {PEER}")
    vknet = Program(here, "vknet", "--wire", "1", *remote, "auto", "there:auto")
    vknet.says("sending frames to there, which has not answered yet")
    # With v1, vknet sends when ssh has logged in; the peer starts after that.
    eventually(lambda: "tap0" in there.interfaces(), "the peer's TAP")
    for host, address in ((here, "198.18.1.1/24"), (there, "198.18.1.2/24")):
        host.ip("addr", "add", address, "dev", "tap0")
    here.run("ping", "-n", "-c1", "-W5", LAN_THERE)
    vknet.says("link up: tap0 to there, wire v1")


def test_two_current_programs_link_with_wire_1(lan: Lan) -> None:
    vknet = lan.vknet("--wire", "1")
    lan.carries()
    vknet.says("link up: tap0 to myhomesystem, wire v1")
