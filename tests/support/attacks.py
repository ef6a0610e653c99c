"""What a client of vknetd can try in secure mode: frames that harm a Linux host outside.

The table ATTACKS of vknetd(8) has the same rows.  The network is that of
tests/hosts/test_secure_mode.py: a victim and a gateway in a bridge.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from tests.support.packets import (
    ARP,
    DESTINATION,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    OFFER,
    UDP,
    arp,
    dhcpv4,
    dhcpv6,
    ethernet,
    ipv4,
    ipv6,
    ones_sum,
    source_mac,
    station_mac,
    target_mac,
    udp,
)
from vknet.counters import DropReason

__all__ = [
    "ATTACKS",
    "CLIENT_IP6",
    "CLIENT_MAC",
    "GATEWAY_IP",
    "GATEWAY_IP6",
    "GATEWAY_MAC",
    "HIDDEN_IP6",
    "NEW_BRIDGE_MAC",
    "VICTIM_IP",
    "VICTIM_IP6",
    "VICTIM_MAC",
    "Attack",
    "to_victim",
]

CLIENT_MAC: Final = bytes.fromhex("020000000505")
VICTIM_MAC: Final = station_mac(0x99)
GATEWAY_MAC: Final = station_mac(0x77)
NEW_BRIDGE_MAC: Final = station_mac(0x55)

CLIENT_IP: Final = "198.18.5.7"
VICTIM_IP: Final = "198.18.4.2"
GATEWAY_IP: Final = "198.18.4.3"

CLIENT_IP6: Final = "fe80::505"
HIDDEN_IP6: Final = "fe80::506"
VICTIM_IP6: Final = "fd00:4::2"
GATEWAY_IP6: Final = "fe80::77"

IGMP, GRE, EIGRP, OSPF, PIM, VRRP = 2, 47, 88, 89, 103, 112

# A port of the victim without a meaning.
PORT: Final = 9999

ALL_HOSTS_MAC: Final = bytes.fromhex("01005e000001")
ALL_NODES_MAC: Final = bytes.fromhex("333300000001")
ROUTER_ALERT: Final = bytes.fromhex("94040000")
ROUTER_ALERT_V6: Final = bytes.fromhex("050200000100")


@dataclass(frozen=True)
class Attack:
    """One row of the table.

    Attributes:
        name: what the client tries.
        reason: why vknetd drops it in secure mode.
        frames: what the client sends.
        harm: what the victim then says or shows; see tests/hosts/test_secure_mode.py.
    """

    name: str
    reason: DropReason
    frames: tuple[bytes, ...]
    harm: str


def checksum(data: bytes) -> bytes:
    return (ones_sum(data) ^ 0xFFFF).to_bytes(2, "big")


def summed(message: bytes, at: int = 2, pseudo_header: bytes = b"") -> bytes:
    """Return a message with its checksum, whose two bytes at `at` are zero."""
    return message[:at] + checksum(pseudo_header + message) + message[at + 2 :]


def client_frame(ethertype: int, payload: bytes, to: bytes = VICTIM_MAC) -> bytes:
    return ethernet(ethertype, payload, source=CLIENT_MAC, destination=to)


def v4(
    protocol: int,
    payload: bytes,
    *,
    to: bytes = VICTIM_MAC,
    destination: str = VICTIM_IP,
    options: bytes = b"",
    more: bool = False,
    offset: int = 0,
) -> bytes:
    """Return a frame of the client with an IPv4 packet; see `ipv4`."""
    packet = ipv4(
        *(CLIENT_IP, protocol, payload),
        destination=destination,
        options=options,
        more=more,
        offset=offset,
    )
    return client_frame(IPV4, packet, to)


def v6(
    kind: int,
    message: bytes,
    *,
    source: str = CLIENT_IP6,
    destination: str = "ff02::1",
    to: bytes = ALL_NODES_MAC,
    head: bytes = b"",
    hop_limit: int = 255,
) -> bytes:
    """Return a frame of the client with an ICMPv6 message or a UDP datagram.

    Args:
        kind: the protocol of the message.
        message: with a zero checksum.
        head: an extension header, with its own type in front.
    """
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    pseudo = addresses + struct.pack("!IHBB", len(message), 0, 0, kind)
    whole = summed(message, 6 if kind == UDP else 2, pseudo)
    first = head[0] if head else kind
    packet = ipv6(source, first, head[1:] + whole, destination=destination, hop_limit=hop_limit)
    return client_frame(IPV6, packet, to)


def icmpv6(kind: int, body: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + body


def to_victim(
    text: str,
    *,
    to: bytes = VICTIM_MAC,
    destination: str = VICTIM_IP,
    options: bytes = b"",
) -> bytes:
    """Return a frame with a UDP datagram, which the victim prints."""
    datagram = udp(40000, PORT, text.encode())
    return v4(UDP, datagram, to=to, destination=destination, options=options)


def router_advertisement(source: str, head: bytes = b"") -> bytes:
    body = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + source_mac(CLIENT_MAC)
    return v6(ICMPV6, icmpv6(134, body), source=source, head=head)


def from_mac(frame: bytes, mac: bytes) -> bytes:
    return frame[:6] + mac + frame[12:]


TARGET_GATEWAY: Final = IPv6Address(GATEWAY_IP6).packed
ORIGINAL: Final = ipv4(VICTIM_IP, UDP, bytes(8), destination="203.0.113.1")
REDIRECT: Final = b"\x05\x01\0\0" + IPv4Address(CLIENT_IP).packed + ORIGINAL
REDIRECT_V6: Final = icmpv6(
    137, bytes(4) + IPv6Address(CLIENT_IP6).packed + IPv6Address("2001:db8::1").packed
)
BPDU: Final = bytes.fromhex("424203000000000000") + bytes(29)
LOOSE_SOURCE_ROUTE: Final = b"\x83\x07\x04" + IPv4Address(VICTIM_IP).packed + b"\0"

ATTACKS: Final = (
    Attack(
        "frames from the MAC address of a gateway",
        DropReason.OUTSIDE_MAC,
        tuple(from_mac(to_victim("gateway's MAC"), GATEWAY_MAC) for _ in range(3)),
        "gateway moved to the TAP",
    ),
    Attack(
        "frames from the new MAC address of the bridge",
        DropReason.SOURCE_NOT_ALLOWED,
        (from_mac(to_victim("bridge's MAC"), NEW_BRIDGE_MAC),),
        "udp 9999 bridge's MAC",
    ),
    Attack(
        "ARP replies for the address of a gateway",
        DropReason.OUTSIDE_ADDRESS,
        (client_frame(ARP, arp(GATEWAY_IP, VICTIM_IP, operation=2, sender_mac=CLIENT_MAC)),),
        "IPv4 gateway is the client",
    ),
    Attack(
        "neighbour advertisements for the address of a router",
        DropReason.OUTSIDE_ADDRESS,
        (v6(ICMPV6, icmpv6(136, b"\x20\0\0\0" + TARGET_GATEWAY + target_mac(CLIENT_MAC))),),
        "IPv6 router is the client",
    ),
    Attack(
        "neighbour solicitations from the address of a router",
        DropReason.OUTSIDE_ADDRESS,
        (
            v6(
                ICMPV6,
                icmpv6(135, bytes(4) + IPv6Address(VICTIM_IP6).packed + source_mac(CLIENT_MAC)),
                source=GATEWAY_IP6,
            ),
        ),
        "IPv6 router is the client",
    ),
    Attack(
        "neighbour advertisements of a router",
        DropReason.ROUTER_MESSAGE,
        (
            v6(
                ICMPV6,
                icmpv6(
                    136, b"\xa0\0\0\0" + IPv6Address(CLIENT_IP6).packed + target_mac(CLIENT_MAC)
                ),
            ),
        ),
        "icmp6 136 a0",
    ),
    Attack(
        "router advertisements",
        DropReason.ROUTER_MESSAGE,
        (router_advertisement(CLIENT_IP6),),
        f"default route via {CLIENT_IP6}",
    ),
    Attack(
        "router advertisements behind extension headers",
        DropReason.ROUTER_MESSAGE,
        (router_advertisement(HIDDEN_IP6, bytes([DESTINATION]) + b"\x3a\0\1\4" + bytes(4)),),
        f"default route via {HIDDEN_IP6}",
    ),
    Attack(
        "ICMP redirects", DropReason.ROUTER_MESSAGE, (v4(ICMP, summed(REDIRECT)),), "ICMP redirect"
    ),
    Attack(
        "ICMPv6 redirects",
        DropReason.ROUTER_MESSAGE,
        (v6(ICMPV6, REDIRECT_V6),),
        "icmp6 137 00",
    ),
    Attack(
        "DHCP replies to a relay, from any port",
        DropReason.DHCP_SERVER,
        (v4(UDP, udp(1000, 67, dhcpv4(OFFER, operation=2))),),
        "udp 67 from 1000",
    ),
    Attack(
        "DHCP replies in fragments",
        DropReason.FRAGMENT,
        (
            v4(UDP, udp(1001, 67, dhcpv4(OFFER, operation=2))[:8], more=True),
            v4(UDP, udp(1001, 67, dhcpv4(OFFER, operation=2))[8:], offset=1),
        ),
        "udp 67 from 1001",
    ),
    Attack(
        "DHCPv6 replies to a relay",
        DropReason.DHCP_SERVER,
        (v6(UDP, udp(1000, 547, dhcpv6(13)), destination=VICTIM_IP6, to=VICTIM_MAC),),
        "udp6 547 13",
    ),
    Attack(
        "IGMP queries",
        DropReason.ROUTER_MESSAGE,
        (
            v4(
                IGMP,
                summed(b"\x11\x64" + bytes(6)),
                destination="224.0.0.1",
                options=ROUTER_ALERT,
                to=ALL_HOSTS_MAC,
            ),
        ),
        "igmp 17",
    ),
    Attack(
        "MLD queries",
        DropReason.ROUTER_MESSAGE,
        (
            v6(
                ICMPV6,
                icmpv6(130, bytes(20)),
                head=bytes([HOP_BY_HOP, ICMPV6, 0]) + ROUTER_ALERT_V6,
                hop_limit=1,
            ),
        ),
        "icmp6 130 00",
    ),
    Attack(
        "multicast router discovery",
        DropReason.ROUTER_MESSAGE,
        (v6(ICMPV6, icmpv6(151, bytes(4)), hop_limit=1),),
        "icmp6 151 00",
    ),
    *(
        Attack(name, DropReason.PROTOCOL, (v4(number, bytes(20)),), f"protocol {number}")
        for name, number in {
            "PIM": PIM,
            "GRE": GRE,
            "EIGRP": EIGRP,
            "OSPF": OSPF,
            "VRRP": VRRP,
        }.items()
    ),
    Attack("RIP", DropReason.ROUTER_MESSAGE, (v4(UDP, udp(520, 520, b"\2\2\0\0")),), "udp 520"),
    Attack(
        "IPv4 source routes",
        DropReason.SOURCE_ROUTE,
        (
            to_victim(
                "source route",
                destination=GATEWAY_IP,
                options=LOOSE_SOURCE_ROUTE,
                to=GATEWAY_MAC,
            ),
        ),
        "udp 9999 source route",
    ),
    Attack(
        "spanning tree",
        DropReason.ETHERTYPE,
        (client_frame(len(BPDU), BPDU, bytes.fromhex("0180c2000000")),),
        "spanning tree",
    ),
)
