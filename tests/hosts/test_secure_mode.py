"""Secure mode against a client that attacks the network outside, with the kernel as the victim.

Each attack is tried on a plain switch first, where it must work.
"""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from testbed.hosts import REPOSITORY, Host, eventually
from testbed.program import Program
from tests.support.attacks import (
    ATTACKS,
    CLIENT_IP6,
    CLIENT_MAC,
    GATEWAY_IP,
    GATEWAY_IP6,
    GATEWAY_MAC,
    HIDDEN_IP6,
    NEW_BRIDGE_MAC,
    VICTIM_IP,
    VICTIM_IP6,
    VICTIM_MAC,
    to_victim,
)
from vknet.counters import DropReason

if TYPE_CHECKING:
    from collections.abc import Iterator

MANUAL: Final = REPOSITORY / "docs/vknetd.8"

SET_UP: Final = f"""\
set -e
station() {{
    ip netns add $1
    ip link add $1 type veth peer name eth0 address $2 netns $1
    ip link set $1 master brx up
    ip -n $1 link set eth0 addrgenmode none up
    ip -n $1 link set lo up
    ip -n $1 addr add $3 dev eth0
}}
ip link add brx type bridge
ip link set brx up
ip addr add 198.18.4.1/22 dev brx
station victim {VICTIM_MAC.hex(":")} {VICTIM_IP}/22
station gateway {GATEWAY_MAC.hex(":")} {GATEWAY_IP}/22
ip -n victim addr add {VICTIM_IP6}/64 dev eth0 nodad
ip -n victim addr add fe80::99/64 dev eth0 nodad
ip -n gateway addr add {GATEWAY_IP6}/64 dev eth0 nodad
ip -n victim route add default via {GATEWAY_IP}
ip -n victim -6 route add default via {GATEWAY_IP6} dev eth0
ip netns exec gateway sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.accept_source_route=1 \
    net.ipv4.conf.eth0.accept_source_route=1
ip netns exec victim sysctl -qw net.ipv4.neigh.eth0.locktime=0 net.ipv6.neigh.eth0.locktime=0 \
    net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.eth0.accept_source_route=1
"""

# The gateway asks by ARP for a station that does not exist, and advertises itself as a router.
SPEAK: Final = """\
import socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.sendto(b"", ("198.18.4.250", 9))
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    there = ("ff02::1", 0, 0, socket.if_nametoindex("eth0"))
    s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), there)
"""

# The victim knows the gateway, as it is.
KNOW: Final = f"""\
set -e
ip -n victim neigh replace {GATEWAY_IP} lladdr {GATEWAY_MAC.hex(":")} nud reachable dev eth0
ip -n victim neigh replace {GATEWAY_IP6} lladdr {GATEWAY_MAC.hex(":")} nud stale dev eth0
"""


class Lab:
    """A bridge with a victim, a gateway, and a vknetd."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.path = host.directory / "vknet"
        self.events_file = host.directory / "events"
        host.run("bash", "-c", SET_UP)
        script = str(REPOSITORY / "tests/support/victim.py")
        with self.events_file.open("wb") as events:
            host.start("ip", "netns", "exec", "victim", "python", script, "eth0", stdout=events)
        self._past = 0
        self._past_redirects = self._redirects()
        eventually(lambda: "listening" in self.events(), "the victim's programs")

    def forget(self) -> None:
        """Let the events and redirects so far not count."""
        self._past += len(self.events())
        self._past_redirects = self._redirects()

    def events(self) -> str:
        """What the victim's kernel delivered to programs, one line each."""
        return self.events_file.read_text()[self._past :]

    def _redirects(self) -> str:
        """The number of ICMP redirects that the victim's kernel has accepted, in digits."""
        lines = re.findall("^Icmp: .*$", self.in_victim("cat", "/proc/net/snmp"), re.MULTILINE)
        names, values = (line.split() for line in lines)
        number: str = values[names.index("InRedirects")]
        return number

    @contextmanager
    def vknetd(self, *options: str) -> Iterator[socket.socket]:
        """Run a vknetd in the bridge, and connect a client."""
        program = Program(
            self.host, "vknetd", "-d", "-b", "brx", "-t", "tap0", "-p", str(self.path), *options
        )
        program.says("ready")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(20)
            sock.connect(str(self.path))
            eventually(lambda: self.status()["clients"], "the client")
            yield sock
        assert program.stop() == 0

    def status(self) -> dict[str, Any]:
        """Return the answer of the control socket, which may be that of a moment ago."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(f"{self.path}.ctl")
            answer: dict[str, Any] = json.loads(b"".join(iter(lambda: sock.recv(65536), b"")))
        return answer

    def pinned(self) -> set[str]:
        """Return the MAC addresses that belong to the uplink."""
        return {entry["mac"] for entry in self.status()["table"]["entries"] if entry["pinned"]}

    def drops(self) -> Counter[str]:
        """Return the drops of the client's frames, at its port and at the uplink."""
        total: Counter[str] = Counter()
        for port in self.status()["ports"]:
            total.update(port["out" if port["kind"] == "tap" else "in"]["drops"])
        return total

    def in_victim(self, *command: str) -> str:
        """Run a command at the victim; return its output."""
        return self.host.output("ip", "netns", "exec", "victim", *command)

    def shows(self, harm: str) -> bool:
        """Whether an attack has worked."""
        client = CLIENT_MAC.hex(":")
        if harm == "gateway moved to the TAP":
            table = self.host.output("bridge", "fdb", "show", "br", "brx")
            return f"{GATEWAY_MAC.hex(':')} dev tap0" in table
        if harm == "IPv4 gateway is the client":
            return client in self.in_victim("ip", "neigh", "show", GATEWAY_IP)
        if harm == "IPv6 router is the client":
            return client in self.in_victim("ip", "neigh", "show", GATEWAY_IP6)
        if harm.startswith("default route via "):
            routes = self.in_victim("ip", "-6", "route", "show", "default")
            return harm.removeprefix("default route ") in routes
        if harm == "ICMP redirect":
            return self._redirects() != self._past_redirects
        return harm in self.events()


def test_attacks_of_a_client_work_on_a_plain_switch_and_fail_in_secure_mode(here: Host) -> None:
    lab = Lab(here)
    here.ip("link", "set", "brx", "address", NEW_BRIDGE_MAC.hex(":"))
    with lab.vknetd("-U") as client:
        for attack in ATTACKS:
            if "is the client" in attack.harm:
                here.run("bash", "-c", KNOW)
            for frame in attack.frames:
                client.send(frame)
            eventually(partial(lab.shows, attack.harm), f"{attack.name}: {attack.harm}", 10)
    # The victim forgets all that, and the bridge gets a MAC address that it will not keep.
    for router in (CLIENT_IP6, HIDDEN_IP6):
        here.ip("-n", "victim", "-6", "route", "del", "default", "via", router, "dev", "eth0")
    here.run("bash", "-c", KNOW)
    here.ip("link", "set", "brx", "address", "02:00:00:00:00:56")
    lab.forget()
    with lab.vknetd("198.18.4.1/22", "fd00:4::1/64") as client:
        here.run("ip", "netns", "exec", "gateway", "python", "-c", SPEAK)
        # What comes to the client, the switch has learned from.
        heard = {frame[12:14] for frame in from_gateway(client, 2)}
        assert heard == {b"\x08\x06", b"\x86\xdd"}
        new_mac = NEW_BRIDGE_MAC.hex(":")
        here.ip("link", "set", "brx", "address", new_mac)
        eventually(lambda: new_mac in lab.pinned(), "the new MAC address of the bridge")
        for attack in ATTACKS:
            for frame in attack.frames:
                client.send(frame)
        client.send(to_victim("the last one"))
        eventually(lambda: "udp 9999 the last one" in lab.events(), "the last frame")
        expected = expected_drops()
        eventually(lambda: lab.drops() >= expected, f"drops {expected}")
        assert [attack.name for attack in ATTACKS if lab.shows(attack.harm)] == []
        assert " 0% packet loss" in lab.in_victim("ping", "-qc3", "-i0.01", "-W1", GATEWAY_IP)


def from_gateway(client: socket.socket, kinds: int) -> list[bytes]:
    """Return the gateway's frames that come to a client, up to this number of EtherTypes."""
    frames: list[bytes] = []
    while len({frame[12:14] for frame in frames}) < kinds:
        frame = client.recv(2000)
        if frame[6:12] == GATEWAY_MAC:
            frames.append(frame)
    return frames


def expected_drops() -> Counter[str]:
    """The frames that are dropped for each reason; the second fragment alone harms nobody."""
    drops: Counter[str] = Counter()
    for attack in ATTACKS:
        drops[attack.reason] += 1 if attack.reason == DropReason.FRAGMENT else len(attack.frames)
    return drops


def test_manual_lists_the_attacks_and_no_others() -> None:
    rows = re.findall(r"^\.It (?!Sy)(.+) Ta Cm (\S+)$", Path(MANUAL).read_text(), re.MULTILINE)
    assert rows == [(attack.name, attack.reason) for attack in ATTACKS]
