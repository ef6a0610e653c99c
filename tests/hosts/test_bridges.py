"""TAPs in bridges, and what other programs do to bridges while a link is up."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest

from testbed.hosts import REPOSITORY, Bed, Host, eventually
from testbed.program import Program
from tests.support.bridge_checks import CHECKS

if TYPE_CHECKING:
    from tests.support.lan import Lan

# Sends a frame into the bridge, as a station there does.
SEND_FRAME: Final = """\
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as bridge:
    bridge.bind(("bridge0", 0))
    bridge.send(bytes.fromhex(sys.argv[1]))
"""


def test_tap_joins_bridges_and_stays_in_them(here: Host) -> None:
    output = here.output(
        *(sys.executable, "-m", "tests.support.bridge_checks"),
        env={"PYTHONPATH": str(REPOSITORY)},
    )
    assert output.splitlines() == [f"passed {check.__name__}" for check in CHECKS]


def test_tap_that_was_taken_out_of_its_bridge_is_put_back_on_both_sides(lan: Lan) -> None:
    vknet = lan.vknet()
    lan.carries()
    for host in (lan.bed.here, lan.bed.there):
        host.ip("link", "set", "tap0", "nomaster")
    vknet.says("tap0 was taken out of the bridge bridge0", times=2)
    vknet.says("put tap0 back in the bridge bridge0", times=2)
    lan.carries()
    assert "link lost" not in vknet.log


def test_tap_of_vknetd_is_put_back_and_its_bridge_followed(here: Host) -> None:
    here.ip("link", "add", "bridge0", "type", "bridge")
    here.ip("link", "set", "bridge0", "up")
    path = str(here.directory / "switch")
    vknetd = Program(here, "vknetd", "-d", "-b", "bridge0", "-p", path, "198.18.5.1/24")
    vknetd.says("ready")
    here.ip("link", "set", "tap0", "nomaster")
    eventually(lambda: here.link("tap0").get("master") == "bridge0", "tap0 in bridge0")
    here.ip("link", "set", "bridge0", "down")
    here.ip("link", "set", "bridge0", "name", "lan0")
    vknetd.says("the bridge bridge0 of tap0 is now called lan0")
    assert '"bridge": "lan0"' in here.output("vknetd", "--status", "--json", "-p", path)
    assert "was deleted" not in vknetd.log

    here.ip("link", "add", "bridge1", "type", "bridge")
    here.ip("link", "set", "tap0", "master", "bridge1")
    vknetd.says("tap0 was moved from lan0 to bridge1, and stays there")
    vknetd.says("198.18.5.1 is also an address of lan0")
    assert "198.18.5.1/24" in here.ip("addr", "show", "dev", "bridge1")


def test_address_of_another_interface_is_named_by_vknetd(bed: Bed) -> None:
    here = bed.here
    vknetd = Program(here, "vknetd", "-d", "-p", str(here.directory / "sw"), f"{bed.HERE4}/30")
    vknetd.says(f"{bed.HERE4} is also an address of wan0")
    vknetd.says("ready")


def test_jumbo_bridges_keep_their_mtu_and_a_tap_alone_follows(bed: Bed) -> None:
    for host in (bed.here, bed.there):
        host.ip("link", "add", "bridge0", "type", "bridge")
        host.ip("link", "add", "p0", "mtu", "9000", "type", "veth", "peer", "name", "e0")
        host.ip("link", "set", "p0", "up", "master", "bridge0")
    vknet = Program(bed.here, "vknet", "-b", "bridge0", "-B", "bridge0", "auto", "there:auto")
    vknet.says("link up")
    assert [h.link("bridge0")["mtu"] for h in (bed.here, bed.there)] == [9000, 9000]
    assert "MTU" not in vknet.log
    assert vknet.stop() == 0

    vknet = Program(bed.here, "vknet", "-b", "bridge0", "-B", "bridge1", "auto", "there:auto")
    vknet.says("there: vknet: created the bridge bridge1, which did not exist")
    vknet.says("link up")
    eventually(lambda: bed.there.link("bridge1")["mtu"] == 9000, "the MTU of the new bridge")
    assert bed.here.link("bridge0")["mtu"] == 9000


def test_host_keeps_the_mtu_of_its_bridge_when_the_peer_has_a_lower_one(bed: Bed) -> None:
    here, there = bed.here, bed.there
    here.ip("link", "add", "bridge0", "type", "bridge")
    here.ip("link", "add", "p0", "mtu", "9000", "type", "veth", "peer", "name", "e0")
    here.ip("link", "set", "p0", "up", "master", "bridge0")
    there.ip("tuntap", "add", "dev", "tap7", "mode", "tap")
    vknet = Program(here, "vknet", "-b", "bridge0", "auto", "there:tap7")
    vknet.says("tap0 has an MTU of 9000, and tap7 on there has an MTU of 1500; give both the same")
    assert here.link("bridge0")["mtu"] == 9000


def test_bridges_with_the_same_mac_address_are_named(lan: Lan) -> None:
    for host in (lan.bed.here, lan.bed.there):
        host.ip("link", "set", "bridge0", "address", "02:00:00:00:00:05")
    vknet = lan.vknet()
    line = vknet.says(
        "vknet: bridge0 and an interface of myhomesystem have the same MAC address"
        " 02:00:00:00:00:05"
    )
    lan.bed.here.run(*line.split("; on one of them: ")[1].split())
    lan.carries()


def test_frame_that_returns_through_a_loop_is_named(lan: Lan) -> None:
    vknet = lan.vknet()
    lan.carries()
    own = lan.bed.here.link("bridge0")["address"]
    frame = "ffffffffffff" + own.replace(":", "") + "88b5" + "00" * 46
    lan.bed.there.run("python", "-c", SEND_FRAME, frame)
    vknet.says(f"a frame from myhomesystem has the MAC address {own} of")
    lan.bed.there.run("python", "-c", SEND_FRAME, frame)
    lan.carries()
    assert vknet.log.count("makes a loop") == 1


@pytest.mark.parametrize("side", ["here", "there"])
def test_device_of_a_macvtap_is_refused(bed: Bed, side: str) -> None:
    host = bed.here if side == "here" else bed.there
    host.ip("link", "add", "link", "wan0", "name", "mv0", "type", "macvtap", "mode", "bridge")
    device = f"/dev/tap{host.link('mv0')['ifindex']}"
    specs = (device, "there:auto") if side == "here" else ("auto", f"there:{device}")
    vknet = Program(bed.here, "vknet", *specs)
    vknet.says(f"{device} is the device of the macvtap interface mv0, which vknet does not support")
    assert vknet.status() == 1
    assert device.removeprefix("/dev/") not in host.interfaces()
