"""The filter of secure mode: what passes claims only allowed addresses, by a second reader.

The input is a frame of a client.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from fuzz.frames import FRAMES
from tests.support.filter_cases import FILTER, LEGITIMATE, PREFIXES, SPOOFED, TAP_ADDRESSES
from tests.support.packets import CLIENT, OTHER, TAP, add_tags, tag

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

MAX_SIZE: Final = 800
WORDS: Final = (
    *(b"\x08\x00\x45\x00", b"\x08\x06\x00\x01\x08\x00\x06\x04\x00", b"\x86\xdd\x60\x00"),
    *(b"\x81\x00", b"\x88\xa8", TAP, CLIENT, OTHER, b"\x3a\xff", b"\x11\xff", b"\x2c\xff"),
    *(IPv4Address(text).packed for text in ("192.0.2.5", "192.0.2.1", "0.0.0.0", "192.0.2.255")),
    *(IPv6Address(text).packed for text in ("2001:db8::5", "2001:db8::1", "fe80::5", "::")),
    *(bytes([kind, 0, 0, 0]) for kind in (133, 134, 135, 136, 137, 143)),
    *(b"\x00\x43\x00\x44", b"\x00\x44\x00\x43", b"\x02\x22\x02\x23", b"\x02\x23\x02\x22"),
    *(b"\1\1" + CLIENT, b"\2\1" + CLIENT, b"\2\1" + OTHER, b"\x3a\0\5\2\0\0\1\0"),
)

NETWORKS4: Final[list[IPv4Network]] = [net for net in PREFIXES if net.version == 4]
NETWORKS6: Final[list[IPv6Network]] = [net for net in PREFIXES if net.version == 6]
OWN4: Final = {IPv4Address(text) for text in (TAP_ADDRESSES[0], "192.0.2.255", "198.51.100.11")}
OWN6: Final = {IPv6Address(text) for text in TAP_ADDRESSES[1:]}

ARP_HEAD: Final = bytes.fromhex("000108000604")
OPTION_HEADERS: Final = (0, 43, 60, 135, 139, 140)


def seeds() -> dict[str, bytes]:
    return {
        **FRAMES,
        **LEGITIMATE,
        **{name: frame for name, (frame, _) in SPOOFED.items()},
        **{f"tagged {name}": add_tags(LEGITIMATE[name], tag(5)) for name in [*LEGITIMATE][::5]},
    }


def run(data: bytes) -> None:
    reason = FILTER.check(data)
    assert FILTER.check(memoryview(data)) == reason, "a view is another frame"
    if reason is None:
        check_frame(data)


def may_use4(address: bytes) -> bool:
    """Whether a client may use an IPv4 address as its own."""
    ip = IPv4Address(address)
    return ip not in OWN4 and any(ip in net for net in NETWORKS4)


def may_use6(address: bytes) -> bool:
    """Whether a client may use an IPv6 address as its own."""
    ip = IPv6Address(address)
    return ip not in OWN6 and (ip.is_link_local or any(ip in net for net in NETWORKS6))


def check_frame(frame: bytes) -> None:
    """Assert that a frame that passed claims no address but the client's."""
    source, rest = frame[6:12], frame[12:]
    assert source != TAP
    assert source != bytes(6)
    assert not source[0] & 1, "a group as the source"
    while rest[:2] in (b"\x81\x00", b"\x88\xa8"):
        rest = rest[4:]
    kind, rest = rest[:2], rest[2:]
    if kind == b"\x08\x06":
        check_arp(rest, source)
    elif kind == b"\x08\x00":
        check_ipv4(rest)
    else:
        assert kind == b"\x86\xdd", f"EtherType {kind.hex()} passed"
        check_ipv6(rest, source)


def check_arp(message: bytes, source: bytes) -> None:
    assert len(message) >= 28
    assert message[:6] == ARP_HEAD
    assert message[6:8] in (b"\0\1", b"\0\2")
    assert message[8:14] == source, "another station's MAC address"
    if message[14:18] == bytes(4):
        assert message[7] == 1
        assert any(IPv4Address(message[24:28]) in net for net in NETWORKS4)
    else:
        assert may_use4(message[14:18])


def check_ipv4(packet: bytes) -> None:
    assert packet[0] >> 4 == 4
    size, total = packet[0] % 16 * 4, int.from_bytes(packet[2:4], "big")
    assert 20 <= size <= total <= len(packet)
    protocol, payload = packet[9], packet[size:total]
    first = int.from_bytes(packet[6:8], "big") & 0x1FFF == 0
    source_port, destination_port = payload[:2], payload[2:4]
    if packet[12:16] == bytes(4):
        assert first
        # DHCP, or an IGMP report.
        dhcp = (source_port, destination_port) == (b"\0\x44", b"\0\x43")
        assert protocol == 2 or (protocol == 17 and dhcp)
    else:
        assert may_use4(packet[12:16])
    if first and protocol == 17:
        assert source_port != b"\0\x43", "a DHCP server"
        assert destination_port != b"\0\x44", "an answer to a DHCP client"
    if first and protocol == 1:
        assert payload[0] not in (5, 9), "a redirect or a router advertisement"


def check_ipv6(packet: bytes, source: bytes) -> None:
    assert packet[0] >> 4 == 6
    length = int.from_bytes(packet[4:6], "big")
    assert 40 + length <= len(packet)
    unspecified = packet[8:24] == bytes(16)
    assert unspecified or may_use6(packet[8:24])
    kind, rest = packet[6], packet[40 : 40 + length]
    is_fragment = False
    while kind in OPTION_HEADERS or kind in (44, 51):
        if kind == 44:
            is_fragment = True
            if rest[2] or rest[3] & 0xF8:
                assert not unspecified
                return
        size = 8 if kind == 44 else rest[1] * 4 + 8 if kind == 51 else rest[1] * 8 + 8
        assert size <= len(rest)
        kind, rest = rest[0], rest[size:]
    if kind == 17:
        assert rest[:2] != b"\x02\x23", "a DHCPv6 server"
        assert rest[2:4] != b"\x02\x22", "an answer to a DHCPv6 client"
    if unspecified:
        assert kind == 58
        assert packet[24] == 0xFF
        assert rest[0] in (131, 132, 133, 135, 143)
        assert not is_fragment
    if kind == 58:
        assert rest[0] not in (134, 137), "a router advertisement or a redirect"
        if rest[0] in (133, 135, 136):
            assert packet[7] == 255
            assert not is_fragment
            check_discovery(rest, source, unspecified=unspecified)


def check_discovery(message: bytes, source: bytes, *, unspecified: bool) -> None:
    options = message[8:] if message[0] == 133 else message[24:]
    if message[0] == 136:
        assert may_use6(message[8:24])
    if message[0] == 135 and unspecified:
        ip = IPv6Address(message[8:24])
        assert ip.is_link_local or any(ip in net for net in NETWORKS6)
    while options:
        size = options[1] * 8
        assert 0 < size <= len(options)
        assert options[0] not in (1, 2) or options[2:size] == source, "another station's address"
        options = options[size:]
