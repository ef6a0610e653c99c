"""How hosts configure themselves and complain, in words: ICMP, neighbour discovery, DHCP.  Pure.

Each function here takes a message as it stands behind its IP or UDP header, cut short or not, any
bytes, and returns a few words of printable ASCII characters.  Nothing is copied out of a message as
text: host names, vendors and the like are whatever a stranger wants to have on a terminal.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

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

# RFC 792 and RFC 4443 alike: type, code; and for an echo its two numbers behind the checksum.
KIND: Final = struct.Struct("!BB")
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
# RFC 1191: behind the checksum and two bytes without use.
NEXT_MTU: Final = struct.Struct("!6xH")

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
MTU: Final = struct.Struct("!4xI")

# RFC 4861, 4.2: how long a router wants to be the default one, in seconds.
LIFETIME: Final = struct.Struct("!6xH")
ADVERTISEMENT_SIZE: Final = 16
TARGET_MAC: Final = 2
PREFIX: Final = 3
PREFIX_SIZE: Final = 32

# RFC 2131: operation, length of a hardware address; the client's new address; its hardware address.
BOOTP: Final = struct.Struct("!BxB13xI8x6s")
COOKIE_AT: Final = 236
COOKIE: Final = bytes((99, 130, 83, 99))
PAD, END = 0, 255
MESSAGE_TYPE: Final = 53
DHCP_OPTIONS_MAX: Final = 64
"""Many more than are in use; it bounds what a message of 64 KB can cost."""

DHCPV4_KINDS: Final = {
    1: "discover",
    2: "offer",
    3: "request",
    4: "decline",
    5: "ack",
    6: "nak",
    7: "release",
    8: "inform",
}

DHCPV6_KINDS: Final = {
    1: "solicit",
    2: "advertise",
    3: "request",
    4: "confirm",
    5: "renew",
    6: "rebind",
    7: "reply",
    8: "release",
    9: "decline",
    10: "reconfigure",
    11: "information request",
    12: "relayed",
    13: "relayed reply",
}
"""RFC 8415, 7.3."""


def describe_icmp(message: bytes) -> str:
    """Say what an ICMP message is; RFC 792."""
    if len(message) < ECHO.size:
        return "ICMP cut short"
    kind, code = KIND.unpack_from(message)
    if kind in (ECHO_REQUEST, ECHO_REPLY):
        return f"ICMP {ICMP_KINDS[kind]} {_echo(message)}"
    if kind != UNREACHABLE or code not in UNREACHABLE_KINDS:
        return f"ICMP {_named(ICMP_KINDS, kind, code)}"
    if code != NEEDS_FRAGMENTATION:
        return f"ICMP {UNREACHABLE_KINDS[code]}"
    (mtu,) = NEXT_MTU.unpack_from(message)
    return f"ICMP {UNREACHABLE_KINDS[code]} to {mtu} bytes"


def describe_icmpv6(message: bytes) -> str:
    """Say what an ICMPv6 message is; RFC 4443, RFC 4861."""
    if len(message) < ICMPV6_SIZE:
        return "ICMPv6 cut short"
    kind, code = KIND.unpack_from(message)
    if kind == UNREACHABLE_V6 and code in UNREACHABLE_V6_KINDS:
        return f"ICMPv6 {UNREACHABLE_V6_KINDS[code]}"
    said = f"ICMPv6 {_named(ICMPV6_KINDS, kind, code)}"
    details = ""
    if kind in (ECHO_REQUEST_V6, ECHO_REPLY_V6):
        details = _echo(message)
    elif kind == TOO_BIG and len(message) >= MTU.size:
        details = f"for {MTU.unpack_from(message)[0]} bytes"
    elif kind in (NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, REDIRECT):
        details = _neighbour(message, kind)
    elif kind == ROUTER_ADVERTISEMENT:
        details = _router(message)
    return f"{said} {details}" if details else said


def _named(names: dict[int, str], kind: int, code: int) -> str:
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
        if option[0] == TARGET_MAC:
            return f"{target} is-at {format_mac(bytes(option[2 : 2 + MAC_SIZE]))}"
    return f"of {target}"


def _router(message: bytes) -> str:
    if len(message) < ADVERTISEMENT_SIZE:
        return "cut short"
    (lifetime,) = LIFETIME.unpack_from(message)
    prefixes = "".join(
        f" prefix {IPv6Address(bytes(option[16:32]))}/{option[2]}"
        for option in nd_options(message, ADVERTISEMENT_SIZE)[0]
        if option[0] == PREFIX and len(option) == PREFIX_SIZE
    )
    return f"for {lifetime} s{prefixes}"


def describe_dhcpv4(message: bytes) -> str:
    """Say what a DHCP message is, and for whom; RFC 2131."""
    if len(message) < COOKIE_AT:
        return "DHCP cut short"
    operation, size, given, hardware = BOOTP.unpack_from(message)
    kind = _message_type(message)
    if kind:
        name = f"DHCP {DHCPV4_KINDS.get(kind, f'type {kind}')}"
    else:
        name = {1: "BOOTP request", 2: "BOOTP reply"}.get(operation, f"BOOTP operation {operation}")
    what = f" of {IPv4Address(given)}" if given else ""
    whom = f" for {format_mac(hardware)}" if size == MAC_SIZE else ""
    return f"{name}{what}{whom}"


def _message_type(message: bytes) -> int:
    """Which DHCP message it is; 0 where that is not said."""
    at = COOKIE_AT + len(COOKIE)
    if message[COOKIE_AT:at] != COOKIE:
        return 0
    for _ in range(DHCP_OPTIONS_MAX):
        option = message[at : at + 3]
        if not option or option[0] == END:
            return 0
        if option[0] == PAD:
            at += 1
        elif len(option) < 3:
            return 0
        elif option[0] == MESSAGE_TYPE:
            return option[2] if option[1] == 1 else 0
        else:
            at += 2 + option[1]
    return 0


def describe_dhcpv6(message: bytes) -> str:
    """Say what a DHCPv6 message is; RFC 8415."""
    if not message:
        return "DHCPv6 cut short"
    return f"DHCPv6 {DHCPV6_KINDS.get(message[0], f'type {message[0]}')}"
