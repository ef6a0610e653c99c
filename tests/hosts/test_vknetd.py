"""vknetd on a host: its TAP, its filter, its bridge, and vknet as its client."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from testbed.host import USER, USER_ID
from testbed.hosts import REPOSITORY, Host, eventually
from testbed.program import Program
from tests.support.packets import (
    ARP,
    BROADCAST,
    CLIENT,
    DISCOVER,
    ICMPV6,
    IPV4,
    IPV6,
    OTHER,
    UDP,
    arp,
    dhcpv4,
    ethernet,
    icmpv6,
    ipv4,
    ipv6,
    neighbour,
    packet,
    source_mac,
    tag,
    target_mac,
    udp,
)
from vknet.counters import DropReason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testbed.hosts import Bed

PREFIXES = ("198.18.5.1/24", "fd00:5::1/64")
MARKER = ethernet(IPV4, ipv4("198.18.5.99", payload=b"the last one".ljust(26)))


def path_on(host: Host) -> Path:
    """Return the path of the socket; the hosts share the file system with the test."""
    return host.directory / "vknet"


def vknetd(host: Host, *options: str, user: str | None = None) -> Program:
    """Start a vknetd, and wait until it is ready."""
    program = Program(host, "vknetd", "-d", "-p", str(path_on(host)), *options, user=user)
    program.says("ready")
    return program


def status(host: Host) -> dict[str, Any]:
    """Return the output of ``vknetd --status --json``."""
    answer = host.output("vknetd", "--status", "--json", "-p", str(path_on(host)))
    result: dict[str, Any] = json.loads(answer)
    return result


def port(host: Host, name: str) -> dict[str, Any]:
    """Return the status of one port."""
    found: dict[str, Any]
    (found,) = [p for p in status(host)["ports"] if p["name"] == name]
    return found


def port_names(host: Host) -> set[str]:
    """Return the names of the ports; that of a client is never used again."""
    return {port["name"] for port in status(host)["ports"]}


@contextmanager
def client(host: Host) -> Iterator[socket.socket]:
    """Connect a client, and wait until it is a port of the switch."""
    before = port_names(host)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(20)
        sock.connect(str(path_on(host)))
        eventually(lambda: port_names(host) - before, "a port for the client")
        yield sock


def mac_of(host: Host, interface: str) -> bytes:
    """Return the MAC address of an interface."""
    return bytes.fromhex(host.link(interface)["address"].replace(":", ""))


class Sniffer:
    """The frames that leave the switch through an interface."""

    def __init__(self, host: Host, interface: str) -> None:
        script = REPOSITORY / "tests/support/sniffer.py"
        self.process = host.start("python", str(script), interface, stdout=subprocess.PIPE)
        assert self._line() == "listening"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def until(self, last: bytes) -> list[bytes]:
        """Return the frames that come before this one."""
        frames = []
        while (frame := bytes.fromhex(self._line())) != last:
            assert frame, "the sniffer has ended"
            frames.append(frame)
        return frames


def nd(source: str, message: bytes, destination: str = "ff02::1") -> bytes:
    """Return a frame with an ICMPv6 message."""
    return ethernet(IPV6, ipv6(source, ICMPV6, message, destination=destination))


def test_daemon_prints_its_tap_and_its_pid_file_stops_it(here: Host) -> None:
    assert here.output("vknetd", "198.18.5.1/24") == "/dev/tap0\n"
    assert "tap0" in here.interfaces()
    pid = here.output("cat", "/var/run/vknetd.pid").strip()
    assert f"pid {pid}," in here.output("vknetd", "--status")
    here.output("bash", "-c", "kill $(cat /var/run/vknetd.pid)")
    eventually(lambda: "tap0" not in here.interfaces(), "the end of the daemon")
    gone = "! test -e /var/run/vknetd.pid && ! test -e /var/run/vknet"
    eventually(lambda: here.run("bash", "-c", gone, check=False).returncode == 0, "no file left")


# Connects to a socket a number of times; prints how many connections the daemon keeps.
CONNECT = """\
import socket, sys
path, count = sys.argv[1], int(sys.argv[2])
socks = []
for _ in range(count):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(30)
    sock.connect(path)
    socks.append(sock)
kept = 0
for sock in socks:
    sock.settimeout(0.2)
    try:
        refused = sock.recv(100) == b""
    except TimeoutError:
        refused = False
    kept += not refused
print(kept, flush=True)
sys.stdin.read()
"""


def test_user_gets_half_of_the_ports_and_root_the_rest(here: Host) -> None:
    vknetd(here, "-t", "none", "--clients", "8", "--mode", "0666")
    command = ("python", "-c", CONNECT, str(path_on(here)), "6")
    alice = here.start(*command, user=USER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert alice.stdout is not None
    assert alice.stdout.readline() == b"4\n"
    assert status(here)["clients_refused"] == 2
    root = here.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert root.stdout is not None
    assert root.stdout.readline() == b"4\n"
    ports = status(here)["ports"]
    assert sorted(port["uid"] for port in ports) == [0] * 4 + [USER_ID] * 4


LEGITIMATE = [
    packet("198.18.5.7"),
    packet("fd00:5::7"),
    packet("fe80::7"),
    ethernet(ARP, arp("198.18.5.7", "198.18.5.1"), destination=BROADCAST),
    ethernet(ARP, arp("0.0.0.0", "198.18.5.7"), destination=BROADCAST),
    nd("::", neighbour(135, "fd00:5::7"), "ff02::1:ff00:7"),
    nd("fd00:5::7", neighbour(136, "fd00:5::7", target_mac())),
    ethernet(
        IPV4,
        ipv4("0.0.0.0", UDP, udp(68, 67, dhcpv4(DISCOVER)), destination="255.255.255.255"),
        destination=BROADCAST,
    ),
    ethernet(ARP, arp("198.18.5.7"), tags=tag(5)),
]

SPOOFED = [
    (packet("203.0.113.7"), DropReason.IPV4_SOURCE),
    (packet("198.18.5.1"), DropReason.IPV4_SOURCE),
    (packet("2001:db8::7"), DropReason.IPV6_SOURCE),
    (packet("fd00:5::1"), DropReason.IPV6_SOURCE),
    (ethernet(IPV4, ipv4("203.0.113.7"), tags=tag(5)), DropReason.IPV4_SOURCE),
    (ethernet(ARP, arp("203.0.113.7")), DropReason.ARP_SENDER),
    (ethernet(ARP, arp("198.18.5.1", operation=2)), DropReason.ARP_SENDER),
    (ethernet(ARP, arp("198.18.5.7", sender_mac=OTHER)), DropReason.ARP_MAC),
    (nd("fd00:5::7", neighbour(136, "2001:db8::1", target_mac())), DropReason.ND_TARGET),
    (nd("fd00:5::7", neighbour(136, "fd00:5::7", target_mac(OTHER))), DropReason.ND_MAC),
    (nd("fe80::7", icmpv6(134, bytes(12) + source_mac())), DropReason.ROUTER_MESSAGE),
    (packet("198.18.5.7", UDP, udp(67, 68, bytes(240))), DropReason.DHCP_SERVER),
    (ethernet(IPV6, ipv6("fe80::7", UDP, udp(547, 546))), DropReason.DHCP_SERVER),
    (ethernet(0x8863, bytes(46)), DropReason.ETHERTYPE),
]


def test_spoofed_frames_do_not_leave_through_the_tap_and_others_do(here: Host) -> None:
    vknetd(here, "-t", "tap0", *PREFIXES)
    sniffer = Sniffer(here, "tap0")
    tap = mac_of(here, "tap0")
    with client(here) as sock, client(here) as other:
        for message, _ in SPOOFED:
            sock.send(message)
        sock.send(ethernet(IPV4, ipv4("198.18.5.7"), source=tap))
        for message in (*LEGITIMATE, MARKER):
            sock.send(message)
        assert sniffer.until(MARKER) == LEGITIMATE
        refused = Counter(reason for _, reason in SPOOFED)
        # The daemon may give an answer of a moment ago.
        eventually(lambda: port(here, "tap0")["out"]["drops"] == refused, f"drops {refused}")
        assert port(here, "client1")["in"]["drops"] == {DropReason.SOURCE_NOT_ALLOWED: 1}
        # The filter applies to the uplink only, not to frames between clients.  Frames from other
        # sources are the host's own: it looks for routers on its new interface.
        received = iter(lambda: other.recv(2000), b"")
        assert next(f for f in received if f[6:12] == CLIENT) == SPOOFED[0][0]


def test_host_is_on_the_network_of_the_clients(here: Host) -> None:
    vknetd(here, "-t", "tap0", *PREFIXES)
    addresses = here.ip("-br", "addr", "show", "tap0")
    assert "198.18.5.1/24" in addresses
    assert "fd00:5::1/64" in addresses
    with client(here) as sock:
        sock.send(ethernet(ARP, arp("198.18.5.7", "198.18.5.1"), destination=BROADCAST))
        replies = (
            frame for frame in iter(lambda: sock.recv(2000), b"") if frame[12:14] == b"\x08\x06"
        )
        reply = next(frame for frame in replies if frame[20:22] == b"\0\2")
        assert reply[:12] == CLIENT + mac_of(here, "tap0")
        assert reply[28:32] == socket.inet_aton("198.18.5.1")


def test_bridge_has_the_address_and_no_client_may_use_it(here: Host) -> None:
    program = vknetd(here, "-t", "tap0", "-b", "bridge0", "198.18.5.1/24")
    assert here.link("tap0")["master"] == "bridge0"
    assert "198.18.5.1/24" in here.ip("-br", "addr", "show", "bridge0")
    assert "198.18.5.1/24" not in here.ip("-br", "addr", "show", "tap0")
    sniffer = Sniffer(here, "tap0")
    with client(here) as sock:
        sock.send(ethernet(ARP, arp("198.18.5.1", sender_mac=CLIENT), destination=BROADCAST))
        sock.send(ethernet(IPV4, ipv4("198.18.5.7"), source=mac_of(here, "bridge0")))
        sock.send(MARKER)
        assert sniffer.until(MARKER) == []
    assert program.stop() == 0
    assert "tap0" not in here.interfaces()
    assert "bridge0" in here.interfaces()


def test_deleted_bridge_is_created_again_with_its_address(here: Host) -> None:
    program = vknetd(here, "-t", "tap0", "-b", "bridge0", "198.18.5.1/24")
    with client(here) as sock:
        here.ip("link", "del", "bridge0")
        program.says("put tap0 back in the bridge bridge0")
        eventually(
            lambda: "198.18.5.1/24" in here.ip("-br", "addr", "show", "bridge0"),
            "the address on the new bridge",
        )
        sniffer = Sniffer(here, "tap0")

        def is_pinned() -> bool:
            # The host now owns the MAC address of the new bridge.
            sock.send(ethernet(IPV4, ipv4("198.18.5.7"), source=mac_of(here, "bridge0")))
            return bool(port(here, "client1")["in"]["drops"])

        eventually(is_pinned, "the MAC address of the new bridge refused to clients")
        sock.send(SPOOFED[0][0])
        sock.send(MARKER)
        assert SPOOFED[0][0] not in sniffer.until(MARKER)
    assert program.stop() == 0


def test_other_interface_with_the_name_of_the_bridge_does_no_harm(here: Host) -> None:
    program = vknetd(here, "-t", "tap0", "-b", "bridge0", "198.18.5.1/24")
    here.ip("link", "del", "bridge0")
    here.ip("tuntap", "add", "bridge0", "mode", "tun")
    program.says("tap0 cannot be put back in the bridge bridge0: bridge0 is an interface, but not")
    with client(here) as a, client(here) as b:
        a.send(MARKER)
        assert next(f for f in iter(lambda: b.recv(2000), b"") if f[6:12] == CLIENT) == MARKER
    assert program.stop() == 0


def test_prefix_without_an_address_gives_the_host_no_address(here: Host) -> None:
    vknetd(here, "-t", "tap0", "198.18.5.0/24")
    assert "198.18.5" not in here.ip("-br", "addr", "show", "tap0")


def test_plain_switch_lets_every_frame_out(here: Host) -> None:
    vknetd(here, "-U", "-t", "tap0")
    sniffer = Sniffer(here, "tap0")
    with client(here) as sock:
        for message, _ in SPOOFED:
            sock.send(message)
        sock.send(MARKER)
        assert sniffer.until(MARKER) == [message for message, _ in SPOOFED]


def test_deleted_tap_is_created_again_and_clients_stay_connected(here: Host) -> None:
    program = vknetd(here, "-t", "tap0", "-b", "bridge0", "198.18.5.1/24")
    with client(here) as sock:
        here.ip("link", "del", "tap0")
        program.says("the interface tap0 was deleted; creating it again")
        program.says("tap0 is back")
        assert here.link("tap0")["master"] == "bridge0"
        sniffer = Sniffer(here, "tap0")
        sock.send(SPOOFED[0][0])
        sock.send(MARKER)
        assert sniffer.until(MARKER) == []
    assert program.stop() == 0


def test_tap_in_use_is_refused_and_nothing_is_left_behind(here: Host) -> None:
    program = vknetd(here, "-t", "tap0", "198.18.5.1/24")
    second = here.run(
        *("vknetd", "-d", "-t", "tap0", "-p", f"{path_on(here)}2", "198.18.6.1/24"), check=False
    )
    assert second.returncode == 1
    assert "tap0 is in use by another program" in second.stderr
    assert not path_on(here).with_name("vknet2").exists()
    assert program.stop() == 0


def test_address_on_a_port_of_a_bridge_is_refused(here: Host) -> None:
    here.ip("tuntap", "add", "dev", "tap0", "mode", "tap")
    here.ip("link", "add", "br1", "type", "bridge")
    here.ip("link", "set", "tap0", "master", "br1")
    done = here.run(
        *("vknetd", "-d", "-t", "tap0", "-p", str(path_on(here)), "198.18.5.1/24"), check=False
    )
    assert done.returncode == 1
    assert "tap0 is a port of a bridge" in done.stderr
    assert "198.18.5.1" not in here.ip("-br", "addr", "show", "tap0")


def test_user_without_privileges_runs_vknetd_on_a_prepared_tap(here: Host) -> None:
    path = here.user_home / "vknet"
    refused = here.run(
        *("vknetd", "-d", "-p", str(path), "-t", "tap0", "198.18.5.1/24"),
        user="alice",
        check=False,
    )
    assert refused.returncode == 1
    assert "as root, once: ip tuntap add dev tap0 mode tap user alice" in refused.stderr
    here.ip("tuntap", "add", "dev", "tap0", "mode", "tap", "user", "alice")
    here.ip("link", "set", "tap0", "up")
    here.ip("addr", "add", "198.18.5.1/24", "dev", "tap0")
    program = Program(
        here, "vknetd", "-d", "-p", str(path), "-t", "tap0", "198.18.5.1/24", user="alice"
    )
    program.says("ready")
    assert "groupadd" not in program.log
    assert program.stop() == 0


@pytest.mark.parametrize("killed", ["here", "there"])
def test_vknet_joins_two_switches_and_reconnects_when_one_restarts(
    bed: Bed, here: Host, there: Host, killed: str
) -> None:
    switches = {host.name: vknetd(host, "-t", "none") for host in (here, there)}
    program = Program(
        here, "vknet", "-r", "0.2", str(path_on(here)), f"myhomesystem:{path_on(there)}"
    )
    program.says("link up")

    def crosses() -> bool:
        with client(here) as a, client(there) as b:
            b.settimeout(1)
            a.send(MARKER)
            try:
                return b.recv(2000) == MARKER
            except TimeoutError:
                return False

    eventually(crosses, "a frame across")
    switches[killed].signal(signal.SIGKILL)
    program.says("link lost")
    vknetd(getattr(bed, killed), "-t", "none")
    program.says("link up", 2)
    eventually(crosses, "a frame across the new link")
    assert program.stop() == 0
