"""One frame of each type that network tools know, built field by field.

The list follows the protocols of tcpdump's own tests; every frame is made here.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Final

from tests.support.packets import (
    ARP,
    BROADCAST,
    CLIENT,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    TAP,
    TCP,
    UDP,
    arp,
    dhcpv4,
    dhcpv4_frame,
    ethernet,
    extension,
    fragment,
    icmp,
    icmpv6,
    ipv4,
    ipv6,
    neighbour,
    packet,
    source_mac,
    tag,
    target_mac,
    tcp,
    udp,
)

__all__ = ["FRAMES"]

HERE4: Final = "192.0.2.5"
HERE6: Final = "2001:db8::5"
LINK_LOCAL: Final = "fe80::5"
COOKIE: Final = bytes.fromhex("63825363")


def group(last: int) -> bytes:
    """Return an IEEE 802.1 group address."""
    return bytes.fromhex("0180c20000") + bytes([last])


def llc(payload: bytes, destination: bytes) -> bytes:
    """Return an 802.3 frame, whose type field is its length."""
    return ethernet(len(payload), payload, destination=destination)


def snap(oui: str, kind: int, payload: bytes, destination: str) -> bytes:
    head = bytes.fromhex("aaaa03" + oui) + kind.to_bytes(2, "big")
    return llc(head + payload, bytes.fromhex(destination))


def ip4(protocol: int, payload: bytes, destination: str = "192.0.2.1") -> bytes:
    return ethernet(IPV4, ipv4(HERE4, protocol, payload, destination=destination))


def ip6(protocol: int, payload: bytes, destination: str = "2001:db8::1") -> bytes:
    return ethernet(IPV6, ipv6(LINK_LOCAL, protocol, payload, destination=destination))


def udp4(port: int, payload: bytes, source: int = 40000) -> bytes:
    return ip4(UDP, udp(source, port, payload))


def udp6(port: int, payload: bytes) -> bytes:
    return ip6(UDP, udp(port, port, payload))


def tcp4(port: int, payload: bytes) -> bytes:
    return ip4(TCP, tcp(0x18, payload, ports=(40000, port)))


def tlv(kind: int, value: bytes) -> bytes:
    """Return an LLDP field: seven bits of type, nine of length."""
    return struct.pack("!H", kind << 9 | len(value)) + value


def cdp(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, 4 + len(value)) + value


BRIDGE: Final = bytes.fromhex("8000") + CLIENT
BPDU: Final = BRIDGE + bytes(4) + BRIDGE + bytes.fromhex("800100001400020000000f00")[:2]
TIMERS: Final = bytes.fromhex("0000140002000f00")
DNS: Final = bytes.fromhex("123401000001000000000000") + b"\7example\0" + bytes.fromhex("00010001")
LSA: Final = bytes.fromhex("ffffff00000a1201000000280000000000000000")
INNER: Final = packet(HERE4, ICMP, icmp(8, 0, b"\0\1\0\2"))
INNER_IP: Final = ipv4(HERE4, ICMP, icmp(8, 0, b"\0\1\0\2"))
ESP: Final = bytes.fromhex("00000001000000ff") + bytes(32)
ISAKMP: Final = bytes(range(8)) + bytes(8) + bytes.fromhex("212022080000001c0000001c")

FRAMES: Final[dict[str, bytes]] = {
    # --- Ethernet and IEEE 802 -------------------------------------------------------------------
    "ARP": ethernet(ARP, arp(HERE4), destination=BROADCAST),
    "ARP reply": ethernet(ARP, arp(HERE4, operation=2)),
    "RARP": ethernet(0x8035, arp("0.0.0.0", operation=3), destination=BROADCAST),
    "Wake-on-LAN": ethernet(0x0842, b"\xff" * 6 + CLIENT * 16, destination=BROADCAST),
    "802.1Q": ethernet(IPV4, ipv4(HERE4), tags=tag(5 | 3 << 13)),
    "802.1ad": ethernet(IPV4, ipv4(HERE4), tags=tag(7, 0x88A8) + tag(9)),
    "LLDP": ethernet(
        0x88CC,
        tlv(1, b"\4" + CLIENT) + tlv(2, b"\5port 1") + tlv(3, b"\0\x78") + tlv(5, b"switch")
        + tlv(127, bytes.fromhex("0080c2010001")) + tlv(0, b""),
        destination=group(0x0E),
    ),
    "CDP": snap(
        "00000c", 0x2000,
        b"\2\xb4\0\0" + cdp(1, b"router") + cdp(3, b"Ethernet0") + cdp(4, b"\0\0\0\1"),
        "01000ccccccc",
    ),
    "VTP": snap("00000c", 0x2003, b"\1\2\0\3lab".ljust(99, b"\0"), "01000ccccccc"),
    "DTP": snap("00000c", 0x2004, b"\1" + cdp(1, b"lab\0") + cdp(2, b"\x81"), "01000ccccccc"),
    "UDLD": snap("00000c", 0x0111, b"\x21\0\0\0" + cdp(1, b"switch"), "01000ccccccc"),
    "STP": llc(b"\x42\x42\x03" + bytes(5) + BPDU + TIMERS, group(0)),
    "STP topology change": llc(b"\x42\x42\x03" + bytes([0, 0, 0, 0x80]), group(0)),
    "RSTP": llc(b"\x42\x42\x03" + bytes([0, 0, 2, 2, 0x3C]) + BPDU + TIMERS + b"\0", group(0)),
    "MSTP": llc(
        b"\x42\x42\x03" + bytes([0, 0, 3, 2, 0x3C]) + BPDU + TIMERS + b"\0\0\x40" + bytes(64),
        group(0),
    ),
    "IS-IS": llc(b"\xfe\xfe\x03\x83\x1b\x01\0\x0f\x01\0\0" + bytes(20), group(0x14)),
    "IPX": llc(b"\xe0\xe0\x03\xff\xff\0\x22\0\x04" + bytes(26), BROADCAST),
    "NetBIOS": llc(b"\xf0\xf0\x03\x2c\0\xff\xef\x08" + bytes(40), bytes.fromhex("030000000001")),
    "AppleTalk": snap("080007", 0x809B, bytes(13), "090007ffffff"),
    "LACP": ethernet(
        0x8809, b"\1\1\1\x14" + bytes(18) + b"\2\x14" + bytes(18) + b"\3\x10" + bytes(64),
        destination=group(2),
    ),
    "Ethernet OAM": ethernet(0x8809, b"\3\0\x50\0\1\x10" + bytes(40), destination=group(2)),
    "EAPOL": ethernet(0x888E, b"\1\1\0\0", destination=group(3)),
    "EAP": ethernet(0x888E, b"\1\0\0\x0a\2\1\0\x0a\1alice", destination=group(3)),
    "MACsec": ethernet(0x88E5, b"\x2c\0\0\0\0\1" + CLIENT + b"\0\1" + bytes(32)),
    "PTP": ethernet(0x88F7, b"\0\2\0\x2c" + bytes(40), destination=bytes.fromhex("011b19000000")),
    "MVRP": ethernet(0x88F5, b"\0\1\2\0\0" + bytes(6), destination=group(0x21)),
    "CFM": ethernet(0x8902, b"\xa0\1\4\x46" + bytes(71), destination=group(0x30)),
    "loopback test": ethernet(0x9000, bytes.fromhex("0000010000") + bytes(41)),
    "AoE": ethernet(0x88A2, b"\x10\0\0\1\1\0\0\0\0\1" + bytes(14)),
    "PPPoE discovery": ethernet(
        0x8863, b"\x11\x09\0\0\0\4\1\1\0\0", destination=BROADCAST
    ),
    "PPPoE LCP": ethernet(0x8864, b"\x11\0\0\1\0\x0a\xc0\x21\1\1\0\x08\1\4\5\xd4"),
    "PPPoE IPv4": ethernet(
        0x8864, b"\x11\0\0\1" + struct.pack("!H", 2 + len(INNER_IP)) + b"\0\x21" + INNER_IP
    ),
    "MPLS": ethernet(0x8847, bytes.fromhex("0001013f") + INNER_IP),
    "MPLS stack": ethernet(0x8847, bytes.fromhex("000100ff0001113f") + INNER_IP),
    # --- IPv4 ------------------------------------------------------------------------------------
    "TCP": tcp4(22, b"SSH-2.0-x\r\n"),
    "TCP options": ip4(
        TCP, tcp(2, options=bytes.fromhex("020405b40402080a000000010000000001030307"))
    ),
    "BGP": tcp4(179, b"\xff" * 16 + bytes.fromhex("001d0104fde900b4c000020500")),
    "HTTP": tcp4(80, b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"),
    "SMB": tcp4(445, bytes.fromhex("00000024ff534d4272000000001801c8") + bytes(24)),
    "DNS over TCP": tcp4(53, len(DNS).to_bytes(2, "big") + DNS),
    "UDP": udp4(9, b"discard"),
    "DNS": udp4(53, DNS),
    "mDNS": ip4(UDP, udp(5353, 5353, DNS), "224.0.0.251"),
    "DHCP": dhcpv4_frame(dhcpv4(COOKIE + b"\x35\1\1\x0c\4host\x37\3\1\3\6\xff")),
    "DHCP offer": dhcpv4_frame(
        dhcpv4(COOKIE + b"\x35\1\2\x36\4\xc0\0\2\1\x33\4\0\0\x0e\x10\xff", client="192.0.2.9",
               operation=2), 67, 68,
    ),
    "NTP": udp4(123, b"\x23\0\x06\xec" + bytes(44), 123),
    "SNMP": udp4(161, bytes.fromhex("302602010104067075626c6963a01902010102010002010030"
                                    "0e300c06082b060102010101000500")),
    "RIP": udp4(520, bytes.fromhex("0202000000020000c0000200ffffff000000000000000001"),
                520),
    "HSRP": ip4(UDP, udp(1985, 1985, bytes.fromhex("000010030a640000636973636f000000c0000201")),
                "224.0.0.2"),
    "GLBP": ip4(
        UDP, udp(3222, 3222, b"\1\0\0\1\0\0" + CLIENT + b"\1\x14" + bytes(18)), "224.0.0.102"
    ),
    "RADIUS": udp4(1812, b"\1\1\0\x1b" + bytes(16) + b"\1\7alice"),
    "syslog": udp4(514, b"<34>Oct 11 22:14:15 host su: failed"),
    "TFTP": udp4(69, b"\0\1boot\0octet\0"),
    "SIP": udp4(5060, b"OPTIONS sip:a@example SIP/2.0\r\n\r\n"),
    "RTP": udp4(5004, b"\x80\x60" + bytes(10) + b"voice"),
    "BFD": udp4(3784, b"\x20\xc0\3\x18" + bytes(20)),
    "LDP": udp4(646, bytes.fromhex("0001001ec00002050000010000140000000104000004000f0000"),
                646),
    "ISAKMP": udp4(500, ISAKMP, 500),
    "ESP in UDP": udp4(4500, ESP, 4500),
    "L2TP": udp4(1701, bytes.fromhex("c802000c0000000000000000"), 1701),
    "VXLAN": udp4(4789, b"\x08\0\0\0\0\0\x2a\0" + INNER),
    "VXLAN-GPE": udp4(4790, b"\x0c\0\0\3\0\0\x2a\0" + INNER),
    "Geneve": udp4(6081, b"\0\0\x65\x58\0\0\x2a\0" + INNER),
    "GTP": udp4(2152, b"\x30\xff" + len(INNER_IP).to_bytes(2, "big") + b"\0\0\0\1" + INNER_IP),
    "LISP": udp4(4341, b"\x80\0\0\1\0\0\0\1" + INNER_IP),
    "WireGuard": udp4(51820, b"\1\0\0\0" + bytes(144)),
    "ping": INNER,
    "ICMP unreachable": ip4(ICMP, icmp(3, 3) + INNER_IP),
    "ICMP redirect": ip4(ICMP, icmp(5, 1, b"\xc0\0\2\1") + INNER_IP),
    "ICMP router advertisement": ip4(ICMP, icmp(9, 0, b"\1\2\0\x1e\xc0\0\2\5\0\0\0\0")),
    "IGMP query": ip4(2, b"\x11\x64\xee\x9b\0\0\0\0", "224.0.0.1"),
    "IGMP report": ip4(2, b"\x16\0\x09\x04\xe0\0\0\xfb", "224.0.0.251"),
    "IGMPv3 report": ip4(2, b"\x22\0\xf9\2\0\0\0\1\4\0\0\0\xe0\0\0\xfb", "224.0.0.22"),
    "IP in IP": ip4(4, INNER_IP),
    "6in4": ip4(41, ipv6(HERE6, ICMPV6, icmpv6(128))),
    "GRE": ip4(47, b"\0\0\x08\0" + INNER_IP),
    "GRE key": ip4(47, b"\x30\0\x08\0\0\0\0\7\0\0\0\1" + INNER_IP),
    "GRE Ethernet": ip4(47, b"\0\0\x65\x58" + INNER),
    "PPTP": ip4(47, b"\x30\x81\x88\x0b\0\2\0\1\0\0\0\1\xc0\x21"),
    "ESP": ip4(50, ESP),
    "AH": ip4(51, b"\1\4\0\0" + bytes(20) + icmp(8)),
    "EIGRP": ip4(88, b"\2\5" + bytes(18) + b"\0\1\0\x0c\1\0\1\0\0\0\0\x0f", "224.0.0.10"),
    "OSPF hello": ip4(
        89, bytes.fromhex("0201002cc000020500000000000000000000000000000000") + LSA, "224.0.0.5"
    ),
    "OSPF description": ip4(
        89, bytes.fromhex("02020020c0000205") + bytes(24), "224.0.0.5"
    ),
    "PIM": ip4(103, b"\x20\0\0\0\0\1\0\2\0\x69", "224.0.0.13"),
    "VRRP": ip4(112, b"\x21\1\x64\1\0\1\0\0\xc0\0\2\1" + bytes(8), "224.0.0.18"),
    "VRRPv3": ip4(112, b"\x31\1\x64\1\0\x64\0\0\xc0\0\2\1", "224.0.0.18"),
    "RSVP": ip4(46, b"\x10\1\0\0\xff\0\0\x14\0\x0c\1\1\xc0\0\2\1\x11\0\0\x50"),
    "SCTP": ip4(
        132, bytes.fromhex("9c4000500000000000000000010000140000000100001000000a000a00000001")
    ),
    "DCCP": ip4(33, bytes.fromhex("9c400050040000000000000000000001") + bytes(4)),
    "UDP-Lite": ip4(136, udp(40000, 9)),
    "IPv4 fragment": ethernet(IPV4, ipv4(HERE4, UDP, bytes(32), offset=185)),
    "IPv4 options": ethernet(IPV4, ipv4(HERE4, options=bytes.fromhex("94040000"))),
    # --- IPv6 ------------------------------------------------------------------------------------
    "TCP over IPv6": packet(HERE6, TCP, tcp(2, options=bytes(20))),
    "ping6": ip6(ICMPV6, icmpv6(128, b"\0\1\0\2")),
    "packet too big": ip6(ICMPV6, icmpv6(2, b"\0\0\x05\0")),
    "RS": ip6(ICMPV6, icmpv6(133, bytes(4) + source_mac()), "ff02::2"),
    "RA": ip6(
        ICMPV6,
        icmpv6(134, b"\x40\0\x07\x08" + bytes(8) + source_mac() + b"\5\1\0\0\0\0\5\xdc"
               + bytes([3, 4, 64, 0xC0]) + bytes(12) + IPv6Address("2001:db8::").packed),
        "ff02::1",
    ),
    "NS": ip6(ICMPV6, neighbour(135, "2001:db8::1", source_mac()), "ff02::1:ff00:1"),
    "NA": ip6(ICMPV6, neighbour(136, LINK_LOCAL, target_mac()), "ff02::1"),
    "redirect": ip6(ICMPV6, neighbour(137, "fe80::6", bytes(16))),
    "MLD query": ip6(
        HOP_BY_HOP, bytes.fromhex("3a00050200000100") + icmpv6(130, bytes(20)), "ff02::1"
    ),
    "MLD report": ip6(
        HOP_BY_HOP, bytes.fromhex("3a00050200000100") + icmpv6(131, bytes(20)), "ff02::fb"
    ),
    "MLDv2 report": ip6(
        HOP_BY_HOP,
        bytes.fromhex("3a00050200000100") + icmpv6(143, b"\0\0\0\1\4\0\0\0" + bytes(16)),
        "ff02::16",
    ),
    "router renumbering": ip6(ICMPV6, icmpv6(138, bytes(12)), "ff02::1"),
    "RPL": ip6(ICMPV6, icmpv6(155, bytes(4)), "ff02::1a"),
    "DHCPv6": udp6(547, b"\1\x12\x34\x56\0\1\0\x0a\0\3\0\1" + CLIENT),
    "DHCPv6 relay": udp6(547, b"\x0c\0" + bytes(32) + b"\0\x09\0\4\1\x12\x34\x56"),
    "RIPng": udp6(521, b"\1\1\0\0" + bytes(16) + b"\0\0\0\x10"),
    "OSPFv3": ip6(89, bytes.fromhex("03010024c000020500000000000000000000000501000013000a0028")
                  + bytes(8), "ff02::5"),
    "PIM over IPv6": ip6(103, b"\x20\0\0\0\0\1\0\2\0\x69", "ff02::d"),
    "VRRP over IPv6": ip6(
        112, b"\x31\1\x64\1\0\x64\0\0" + IPv6Address("fe80::1").packed, "ff02::12"
    ),
    "4in6": ip6(4, INNER_IP),
    "SRv6": ip6(43, bytes([41, 2, 4, 0, 0, 0, 0, 0]) + IPv6Address(HERE6).packed
                + ipv6(HERE6, ICMPV6, icmpv6(128))),
    "IPv6 extensions": ip6(HOP_BY_HOP, extension(60) + extension(UDP, 1) + udp(53, 53)),
    "IPv6 fragment": ip6(FRAGMENT, fragment(UDP, more=True) + udp(53, 53)),
    "IPv6 without payload": ip6(59, b""),
    "unknown": ethernet(0x88B5, b"any payload", source=CLIENT, destination=TAP),
}  # fmt: skip
