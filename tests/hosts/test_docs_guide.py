"""What README.md and docs/guide.md tell users to type, between real hosts.

Blocks are taken from the pages and run as they stand, by root.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from testbed.hosts import Bed, Host, eventually
from testbed.program import Program
from tests.support.pages import GUIDE, LIBRARY, README, blocks, type_in, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lan import Lan

# The real card of the guide, its address and its gateway.
CARD: Final = "eth0"
CARD_ADDRESS: Final = "192.0.2.10"
GATEWAY: Final = "192.0.2.1"

# A DHCP message and a router advertisement, each sent to all hosts on the bridge's network, and how
# another host listens for it: a socket, and which message counts.
SEND_DHCP: Final = """\
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.bind(("198.18.1.1", 68))
s.sendto(b"discover", ("198.18.1.255", 67))
"""
AWAIT_DHCP: Final = """\
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 67))
expected = b"discover"
"""
SEND_RA: Final = """\
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
index = socket.if_nametoindex("bridge0")
s.sendto(bytes([134, 0, 0, 0, 64, 0, 7, 8, *[0] * 8]), ("ff02::1", 0, 0, index))
"""
AWAIT_RA: Final = """\
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
expected = bytes([134])
"""

# Frames keep their order on an idle link: what has not come before this message was blocked.
SEND_END: Final = """
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
end.sendto(b"end", ("198.18.1.255", 9067))
"""
AWAIT_END: Final = """
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.bind(("", 9067))
end.settimeout(30)
s.setblocking(False)
print("listening", flush=True)
end.recv(100)
found = False
try:
    while not found:
        found = s.recv(100).startswith(expected)
except BlockingIOError:
    pass
print(found, flush=True)
"""


def guide(heading: str, language: str = "sh") -> list[str]:
    return blocks(GUIDE.read_text(), heading, language)


def add_card(host: Host) -> None:
    """Give a host a card with the guide's address, and a station on the other end of its cable."""
    type_in(
        host,
        f"""
        ip netns add station
        ip link add {CARD} type veth peer name {CARD} netns station
        ip link set {CARD} up
        ip addr add {CARD_ADDRESS}/24 dev {CARD}
        ip -n station link set {CARD} up
        ip -n station addr add {GATEWAY}/24 dev {CARD}
        """,
    )


def hears(host: Host, listen: str, source: Host, send: str) -> bool:
    """Whether a host receives what another one sends."""
    waiting = host.start("python", "-c", listen + AWAIT_END, stdout=subprocess.PIPE)
    if waiting.stdout is None:
        raise AssertionError("asked for as a pipe")
    waiting.stdout.readline()
    source.run("python", "-c", send + SEND_END)
    found = waiting.stdout.read().decode().strip()
    assert found in {"True", "False"}
    return found == "True"


def test_quick_start_ends_with_a_ping(bed: Bed) -> None:
    _, link, addresses, bridges = blocks(README.read_text(), "Quick start")
    vknet = Program(bed.here, *words_of(link))
    vknet.says("link up: tap0 to myhomesystem tap0, wire v2")
    assert "3 received" in type_in(bed.here, addresses)
    assert vknet.stop() == 0

    eventually(lambda: "tap0" not in bed.there.interfaces(), "the TAP there gone")
    Program(bed.here, *words_of(bridges)).says("link up: tap0 to myhomesystem tap0")
    assert bed.there.link("tap0")["master"] == "bridge0"


def test_addresses_of_the_guide_are_reached(bed: Bed) -> None:
    (link,) = guide("Join two bridges")
    Program(bed.here, *words_of(link)).says("link up")
    (addresses,) = guide("Addresses")
    here, there = addresses.splitlines()
    type_in(bed.here, here)
    type_in(bed.there, there)
    eventually(lambda: bed.here.reaches("198.18.1.2"), "a ping across")


def test_real_lan_is_reached_once_its_card_is_in_the_bridge(bed: Bed) -> None:
    here, there = bed.here, bed.there
    add_card(there)
    mac = there.link(CARD)["address"]

    type_in(there, guide("Connect the real LAN")[0])
    (link,) = guide("Join two bridges")
    Program(here, *words_of(link)).says("link up")
    here.ip("addr", "add", "192.0.2.20/24", "dev", "bridge0")

    eventually(lambda: here.reaches(GATEWAY), "a station of the LAN there")
    assert here.reaches(CARD_ADDRESS), "the host there, at its old address"
    assert there.link("bridge0")["address"] == mac
    assert f"default via {GATEWAY} dev bridge0" in there.ip("route")
    ping = ("ip", "netns", "exec", "station", "ping", "-n", "-c1", "-W2")
    there.run(*ping, CARD_ADDRESS)
    there.run(*ping, "192.0.2.20")


def test_ssh_session_survives_the_move_of_its_address_to_the_bridge(bed: Bed) -> None:
    script = guide("Connect the real LAN")[0].replace("sudo ", "").replace(CARD, "wan0")
    script = script.replace(f"{CARD_ADDRESS}/24", f"{bed.THERE4}/30").replace(GATEWAY, bed.HERE4)
    output = bed.here.output("ssh", "there", f"{script}\nsleep 1; echo still here")
    assert output == "still here\n"
    assert bed.there.link("wan0")["master"] == "bridge0"


def test_container_is_reached_through_the_bridge(lan: Lan) -> None:
    container, _ = guide("Virtual machines and containers")
    type_in(lan.bed.there, container)
    lan.vknet().says("link up")
    eventually(lambda: lan.bed.here.reaches("198.18.1.11"), "the container there")


def test_auto_does_not_take_the_tap_of_a_virtual_machine(bed: Bed) -> None:
    bed.here.ip("link", "add", "bridge0", "type", "bridge")
    _, machine = guide("Virtual machines and containers")
    type_in(bed.here, machine)
    bed.here.run("bash", "-c", "ip tuntap add dev tap0 mode tap user alice; ip link set tap0 up")
    vknet = Program(bed.here, "vknet", "auto", "root@there:auto", user="alice")
    vknet.says("link up: tap0 to there")


@pytest.fixture
def third(bed: Bed) -> Iterator[Host]:
    """A host that reaches `there` by a wire of its own, where that is called hub."""
    with Host("third", bed.directory) as host:
        host.ip("link", "add", "wan0", "type", "veth", "peer", "name", "wan1")
        host.ip("link", "set", "wan1", "netns", str(bed.there.init))
        ends = ((host, "wan0", "198.18.0.5"), (bed.there, "wan1", "198.18.0.6"))
        for each, name, address in ends:
            each.ip("addr", "add", f"{address}/30", "dev", name)
            each.ip("link", "set", name, "up")
        hosts = "127.0.0.1 localhost\n198.18.0.6 hub\n"
        (host.directory / "etc/hosts").write_text(hosts)
        host.run("cp", "-a", f"{bed.here.home}/.ssh", str(host.home))
        known = host.home / ".ssh/known_hosts"
        known.write_text(known.read_text().replace("there,", "there,198.18.0.6,hub,"))
        yield host


def test_three_sites_are_one_network_by_a_star(bed: Bed, third: Host) -> None:
    hub = bed.there
    for host, last in ((bed.here, 1), (hub, 2), (third, 3)):
        host.ip("link", "add", "bridge0", "type", "bridge")
        host.ip("link", "set", "bridge0", "up")
        host.ip("addr", "add", f"198.18.1.{last}/24", "dev", "bridge0")
    with (bed.here.directory / "etc/hosts").open("a") as hosts:
        hosts.write(f"{bed.THERE4} hub\n")
    known = bed.here.home / ".ssh/known_hosts"
    known.write_text(known.read_text().replace("there,", "there,hub,"))
    (link,) = guide("Three sites")
    for host in (bed.here, third):
        Program(host, *words_of(link)).says("link up: tap0 to hub")
    assert {"tap0", "tap1"} <= set(hub.interfaces())
    eventually(lambda: bed.here.reaches("198.18.1.3"), "a ping across the hub")
    assert third.reaches("198.18.1.1", wait=2)
    assert third.reaches("198.18.1.2", wait=2)


def test_user_needs_no_privileges_with_prepared_taps(bed: Bed) -> None:
    prepare, link = guide("Without root")
    for host in (bed.here, bed.there):
        type_in(host, prepare)
    vknet = Program(bed.here, *words_of(link), user="alice")
    vknet.says("link up: tap0 to myhomesystem tap0")
    assert vknet.stop() == 0
    assert bed.there.link("tap0")["master"] == "bridge0"


def test_dhcp_and_router_advertisements_are_blocked(lan: Lan) -> None:
    here, there = lan.bed.here, lan.bed.there
    lan.vknet().says("link up: tap0 to myhomesystem tap0")
    lan.carries()
    assert hears(there, AWAIT_DHCP, here, SEND_DHCP)
    assert hears(there, AWAIT_RA, here, SEND_RA)

    (rules,) = guide("Block DHCP and router advertisements", "nft")
    (commands,) = guide("Block DHCP and router advertisements")
    path = there.directory / "no-dhcp.nft"
    path.write_text(rules)
    load, show, delete = commands.replace("/etc/vknet/no-dhcp.nft", str(path)).splitlines()
    type_in(there, load)

    assert not hears(there, AWAIT_DHCP, here, SEND_DHCP)
    assert not hears(there, AWAIT_RA, here, SEND_RA)
    back = SEND_DHCP.replace("198.18.1.1", "198.18.1.2")
    assert not hears(here, AWAIT_DHCP, there, back)
    assert not hears(here, AWAIT_RA, there, SEND_RA)
    lan.carries()
    counted = re.findall(r"counter packets (\d+)", type_in(there, show))
    assert [int(number) > 0 for number in counted] == [True, True]
    type_in(there, delete)
    assert hears(there, AWAIT_DHCP, here, SEND_DHCP)


def test_jumbo_frames_pass_a_link_with_the_mtu_of_the_guide(bed: Bed) -> None:
    (link,) = guide("MTU")
    Program(bed.here, *words_of(link)).says("link up")
    for host, address in ((bed.here, "198.18.1.1/24"), (bed.there, "198.18.1.2/24")):
        host.ip("addr", "add", address, "dev", "tap0")
    eventually(lambda: bed.there.link("tap0")["mtu"] == 9000, "the MTU on the far side")
    bed.here.run("ping", "-n", "-c2", "-i0.1", "-W2", "-Mdo", "-s", "8972", "198.18.1.2")


def test_jump_host_of_the_guide_is_an_option_of_ssh(bed: Bed) -> None:
    (link,) = guide("Jump hosts")
    words = [word.replace("jump.example.net", "root@there") for word in words_of(link)]
    Program(bed.here, *words).says("link up: tap0 to myhomesystem tap0")


def test_example_of_a_link_between_two_hosts_reconnects(bed: Bed) -> None:
    (example,) = blocks(LIBRARY.read_text(), "A link between two hosts", "python")
    path = bed.here.directory / "example.py"
    path.write_text(example)
    output = bed.here.directory / "output"
    with output.open("wb") as out:
        bed.here.start("python", "-u", str(path), stdout=out, stderr=out)
    eventually(lambda: "Up(peer='myhomesystem', wire=2" in output.read_text(), "the link up")
    (ssh,) = bed.here.processes("-x -T -e none")
    os.kill(ssh, signal.SIGKILL)
    eventually(lambda: "Lost(cause=PeerGone('ssh was killed" in output.read_text(), "its loss")
    assert bed.here.link("tap0")["master"] == "bridge0"
