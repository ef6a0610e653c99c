"""Describe control messages in a few words: ICMP, neighbour discovery, DHCP.  Pure.

Each function takes the payload of an IP packet or UDP datagram: any bytes, which may be cut short.
It returns a few words of printable ASCII characters.  No text is copied from a message: a sender
could put control characters for the terminal into host names and the like.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from vknet.packet.dhcp import (
    BOOT_REPLY,
    BOOT_REQUEST,
    BOOTP,
    BOOTP_SIZE,
    DHCPV4_KINDS,
    DHCPV6_KINDS,
    MESSAGE_TYPE_OPTION,
    dhcpv4_options,
)
from vknet.packet.ethernet import MAC_SIZE, format_mac
from vknet.packet.ip import (
    ICMPV6_SIZE,
    MLD2_REPORT,
    MLD_DONE,
    MLD_REPORT,
    ND_TARGET_OFFSET,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SIZE,
    NEIGHBOUR_SOLICITATION,
    REDIRECT,
    ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION,
    nd_options,
)

__all__ = ["describe_dhcpv4", "describe_dhcpv6", "describe_icmp", "describe_icmpv6"]

# The same in RFC 792 and RFC 4443: type and code; the identifier and sequence number of an echo
# message follow the checksum.
TYPE_AND_CODE: Final = struct.Struct("!BB")
ECHO: Final = struct.Struct("!4xHH")

ECHO_REPLY, UNREACHABLE, ECHO_REQUEST = 0, 3, 8
ICMP_KINDS: Final = {
    ECHO_REPLY: "echo reply",
    UNREACHABLE: "unreachable",
    4: "source quench",
    5: "redirect",
    ECHO_REQUEST: "echo request",
    9: "router advertisement",
    10: "router solicitation",
    11: "time exceeded",
    12: "parameter problem",
    13: "timestamp request",
    14: "timestamp reply",
}
NEEDS_FRAGMENTATION: Final = 4
UNREACHABLE_KINDS: Final = {
    0: "net unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    NEEDS_FRAGMENTATION: "needs fragmentation",
    9: "net prohibited",
    10: "host prohibited",
    13: "prohibited",
}
# RFC 1191: the MTU of the next hop follows the checksum and two unused bytes.
NEXT_HOP_MTU: Final = struct.Struct("!6xH")

UNREACHABLE_V6, TOO_BIG = 1, 2
ECHO_REQUEST_V6, ECHO_REPLY_V6 = 128, 129
ICMPV6_KINDS: Final = {
    UNREACHABLE_V6: "unreachable",
    TOO_BIG: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    ECHO_REQUEST_V6: "echo request",
    ECHO_REPLY_V6: "echo reply",
    130: "MLD query",
    MLD_REPORT: "MLD report",
    MLD_DONE: "MLD done",
    ROUTER_SOLICITATION: "router solicitation",
    ROUTER_ADVERTISEMENT: "router advertisement",
    NEIGHBOUR_SOLICITATION: "neighbour solicitation",
    NEIGHBOUR_ADVERTISEMENT: "neighbour advertisement",
    REDIRECT: "redirect",
    MLD2_REPORT: "MLDv2 report",
}
UNREACHABLE_V6_KINDS: Final = {
    0: "no route",
    1: "prohibited",
    3: "address unreachable",
    4: "port unreachable",
}
# RFC 4443, section 3.2: the MTU in a packet too big message.
PACKET_TOO_BIG_MTU: Final = struct.Struct("!4xI")

# RFC 4861, section 4.2: the router lifetime, in seconds; the size of a router advertisement, in
# bytes, after which options follow.
ROUTER_LIFETIME: Final = struct.Struct("!6xH")
ROUTER_ADVERTISEMENT_SIZE: Final = 16

# RFC 4861, section 4.6: the types of two options, and the size of the second in bytes.
TARGET_LINK_LAYER_OPTION: Final = 2
PREFIX_OPTION: Final = 3
PREFIX_OPTION_SIZE: Final = 32

BOOTP_KINDS: Final = {BOOT_REQUEST: "BOOTP request", BOOT_REPLY: "BOOTP reply"}


def describe_icmp(message: bytes) -> str:
    """Describe an ICMP message (RFC 792)."""
    if len(message) < ECHO.size:
        return "ICMP cut short"
    kind, code = TYPE_AND_CODE.unpack_from(message)
    if kind in (ECHO_REQUEST, ECHO_REPLY):
        return f"ICMP {ICMP_KINDS[kind]} {_echo(message)}"
    if kind != UNREACHABLE or code not in UNREACHABLE_KINDS:
        return f"ICMP {_type_name(ICMP_KINDS, kind, code)}"
    if code != NEEDS_FRAGMENTATION:
        return f"ICMP {UNREACHABLE_KINDS[code]}"
    (mtu,) = NEXT_HOP_MTU.unpack_from(message)
    return f"ICMP {UNREACHABLE_KINDS[code]} to {mtu} bytes"


def describe_icmpv6(message: bytes) -> str:
    """Describe an ICMPv6 message (RFC 4443, RFC 4861)."""
    if len(message) < ICMPV6_SIZE:
        return "ICMPv6 cut short"
    kind, code = TYPE_AND_CODE.unpack_from(message)
    if kind == UNREACHABLE_V6 and code in UNREACHABLE_V6_KINDS:
        return f"ICMPv6 {UNREACHABLE_V6_KINDS[code]}"
    text = f"ICMPv6 {_type_name(ICMPV6_KINDS, kind, code)}"
    details = ""
    if kind in (ECHO_REQUEST_V6, ECHO_REPLY_V6):
        details = _echo(message)
    elif kind == TOO_BIG and len(message) >= PACKET_TOO_BIG_MTU.size:
        details = f"for {PACKET_TOO_BIG_MTU.unpack_from(message)[0]} bytes"
    elif kind in (NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, REDIRECT):
        details = _neighbour(message, kind)
    elif kind == ROUTER_ADVERTISEMENT:
        details = _router(message)
    return f"{text} {details}" if details else text


def _type_name(names: dict[int, str], kind: int, code: int) -> str:
    name = names.get(kind)
    if name is None:
        return f"type {kind} code {code}"
    return f"{name} code {code}" if code else name


def _echo(message: bytes) -> str:
    if len(message) < ECHO.size:
        return "cut short"
    identifier, sequence = ECHO.unpack_from(message)
    return f"id {identifier} seq {sequence}"


def _neighbour(message: bytes, kind: int) -> str:
    if len(message) < NEIGHBOUR_SIZE:
        return "cut short"
    target = IPv6Address(message[ND_TARGET_OFFSET:NEIGHBOUR_SIZE])
    if kind == REDIRECT:
        return f"to {target}"
    if kind == NEIGHBOUR_SOLICITATION:
        return f"who-has {target}"
    for option in nd_options(message, NEIGHBOUR_SIZE)[0]:
        if option[0] == TARGET_LINK_LAYER_OPTION:
            return f"{target} is-at {format_mac(bytes(option[2 : 2 + MAC_SIZE]))}"
    return f"of {target}"


def _router(message: bytes) -> str:
    if len(message) < ROUTER_ADVERTISEMENT_SIZE:
        return "cut short"
    (lifetime,) = ROUTER_LIFETIME.unpack_from(message)
    prefixes = "".join(
        f" prefix {IPv6Address(bytes(option[16:32]))}/{option[2]}"
        for option in nd_options(message, ROUTER_ADVERTISEMENT_SIZE)[0]
        if option[0] == PREFIX_OPTION and len(option) == PREFIX_OPTION_SIZE
    )
    return f"for {lifetime} s{prefixes}"


def describe_dhcpv4(message: bytes) -> str:
    """Describe a DHCP message, and name the client that it is about (RFC 2131)."""
    if len(message) < BOOTP_SIZE:
        return "DHCP cut short"
    operation, _, address_size, client_ip, _, client_mac = BOOTP.unpack_from(message)
    kind = _message_type(message)
    if kind:
        name = f"DHCP {DHCPV4_KINDS.get(kind, f'type {kind}')}"
    else:
        name = BOOTP_KINDS.get(operation, f"BOOTP operation {operation}")
    address = f" of {IPv4Address(client_ip)}" if client_ip else ""
    client = f" for {format_mac(client_mac)}" if address_size == MAC_SIZE else ""
    return f"{name}{address}{client}"


def _message_type(message: bytes) -> int:
    """Return the DHCP message type; 0 if there is none."""
    options, _ = dhcpv4_options(message)
    value = next((value for code, value in options if code == MESSAGE_TYPE_OPTION), b"")
    return value[0] if len(value) == 1 else 0


def describe_dhcpv6(message: bytes) -> str:
    """Describe a DHCPv6 message (RFC 8415)."""
    if not message:
        return "DHCPv6 cut short"
    return f"DHCPv6 {DHCPV6_KINDS.get(message[0], f'type {message[0]}')}"
