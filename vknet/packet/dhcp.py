"""DHCP messages: formats, message types, options.  Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from vknet.counters import DropReason

if TYPE_CHECKING:
    from vknet.packet.ethernet import Frame

__all__ = [
    "BOOTP",
    "BOOTP_SIZE",
    "BOOT_REPLY",
    "BOOT_REQUEST",
    "DHCPV4_KINDS",
    "DHCPV6_HEADER_SIZE",
    "DHCPV6_KINDS",
    "ETHERNET_HARDWARE",
    "MESSAGE_TYPE_OPTION",
    "dhcpv4_options",
    "dhcpv6_error",
]

# RFC 2131: operation, type and length of a hardware address; yiaddr, giaddr, chaddr.
BOOTP: Final = struct.Struct("!BBB13xI4xI6s")
BOOT_REQUEST, BOOT_REPLY = 1, 2
ETHERNET_HARDWARE: Final = 1

BOOTP_SIZE: Final = 236
"""The size of the fixed fields in bytes; the magic cookie and the options follow."""
COOKIE: Final = bytes((99, 130, 83, 99))

# RFC 2132.
PAD_OPTION, END_OPTION, MESSAGE_TYPE_OPTION = 0, 255, 53

OPTIONS_MAX: Final = 64
"""The number of options that are parsed, with padding.  Messages have far fewer; it bounds the cost
of a message of 64 KB."""

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
"""RFC 8415, section 7.3."""

DHCPV6_HEADER_SIZE: Final = 4
DHCPV6_OPTION: Final = struct.Struct("!HH")


def dhcpv4_options(message: Frame) -> tuple[list[tuple[int, Frame]], DropReason | None]:
    """Split the options of a DHCP message (RFC 2132).

    Args:
        message: at least `BOOTP_SIZE` bytes.

    Returns:
        The code and the value of each option before the first wrong one; and what is wrong with
        that one, or None.  A message without the magic cookie is BOOTP's, and has no options.
    """
    options: list[tuple[int, Frame]] = []
    at = BOOTP_SIZE + len(COOKIE)
    if message[BOOTP_SIZE:at] != COOKIE:
        return options, None
    size = len(message)
    for _ in range(OPTIONS_MAX):
        if at >= size or message[at] == END_OPTION:
            return options, None
        if message[at] == PAD_OPTION:
            at += 1
            continue
        if at + 2 > size or at + 2 + message[at + 1] > size:
            return options, DropReason.CUT_SHORT
        stop = at + 2 + message[at + 1]
        options.append((message[at], message[at + 2 : stop]))
        at = stop
    ended = at >= size or message[at] == END_OPTION
    return options, None if ended else DropReason.MALFORMED


def dhcpv6_error(message: Frame) -> DropReason | None:
    """Return what is wrong with the options of a DHCPv6 message; None if nothing is."""
    at, size = DHCPV6_HEADER_SIZE, len(message)
    if size < at:
        return DropReason.CUT_SHORT
    for _ in range(OPTIONS_MAX):
        if at == size:
            return None
        if at + DHCPV6_OPTION.size > size:
            return DropReason.CUT_SHORT
        _, length = DHCPV6_OPTION.unpack_from(message, at)
        at += DHCPV6_OPTION.size + length
        if at > size:
            return DropReason.CUT_SHORT
    return None if at == size else DropReason.MALFORMED
