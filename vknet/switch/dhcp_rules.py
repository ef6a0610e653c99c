"""Which DHCP messages of a client may leave in secure mode: only those of a DHCP client.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vknet.counters import DropReason
from vknet.packet.dhcp import (
    BOOT_REPLY,
    BOOT_REQUEST,
    BOOTP,
    BOOTP_SIZE,
    DHCPV4_KINDS,
    DHCPV6_KINDS,
    ETHERNET_HARDWARE,
    MESSAGE_TYPE_OPTION,
    dhcpv4_options,
    dhcpv6_error,
)
from vknet.packet.ethernet import MAC_SIZE
from vknet.packet.ip import (
    DHCPV4_CLIENT,
    DHCPV4_SERVER,
    DHCPV6_CLIENT,
    DHCPV6_SERVER,
    PORTS,
    UDP_HEADER_SIZE,
)

if TYPE_CHECKING:
    from vknet.packet.ethernet import Frame

__all__ = ["DHCPV4_PORTS", "DHCPV6_PORTS", "check_dhcpv4", "check_dhcpv6"]

DHCPV4_PORTS: Final = frozenset((DHCPV4_SERVER, DHCPV4_CLIENT))
DHCPV6_PORTS: Final = frozenset((DHCPV6_SERVER, DHCPV6_CLIENT))

SERVER_KINDS: Final = ("offer", "ack", "nak")
CLIENT_TYPES: Final = frozenset(n for n, kind in DHCPV4_KINDS.items() if kind not in SERVER_KINDS)

SERVER_KINDS_V6: Final = ("advertise", "reply", "reconfigure", "relayed", "relayed reply")
CLIENT_TYPES_V6: Final = frozenset(
    n for n, kind in DHCPV6_KINDS.items() if kind not in SERVER_KINDS_V6
)


def check_dhcpv4(datagram: Frame, mac: bytes, *, whole: bool) -> DropReason | None:
    """Check a UDP datagram from or to a port of DHCP.

    Args:
        datagram: from the UDP header on, to the end of the packet.
        mac: the source of the frame.
        whole: the packet is no fragment; the rest of a message in fragments is not seen here.
    """
    source, destination = PORTS.unpack_from(datagram)
    if source == DHCPV4_SERVER or destination == DHCPV4_CLIENT:
        # An answer of a server, or a message that a relay passes on.
        return DropReason.DHCP_SERVER
    if destination != DHCPV4_SERVER:
        return None
    if not whole:
        return DropReason.FRAGMENT
    message = datagram[UDP_HEADER_SIZE:]
    if message and message[0] == BOOT_REPLY:
        # A relay delivers it to a client, whatever its source port.
        return DropReason.DHCP_SERVER
    if len(message) < BOOTP_SIZE or _udp_length(datagram) != len(datagram):
        return DropReason.CUT_SHORT
    operation, hardware, address_size, _, relay, address = BOOTP.unpack_from(message)
    if operation != BOOT_REQUEST or (hardware, address_size) != (ETHERNET_HARDWARE, MAC_SIZE):
        return DropReason.MALFORMED
    if relay:
        return DropReason.DHCP_SERVER
    if address != mac:
        return DropReason.DHCP_MAC
    options, error = dhcpv4_options(message)
    for code, value in options:
        if code == MESSAGE_TYPE_OPTION and (len(value) != 1 or value[0] not in CLIENT_TYPES):
            return DropReason.DHCP_SERVER
    return error


def check_dhcpv6(datagram: Frame, *, whole: bool) -> DropReason | None:
    """Check a UDP datagram from or to a port of DHCPv6; see `check_dhcpv4`."""
    source, destination = PORTS.unpack_from(datagram)
    if source == DHCPV6_SERVER or destination == DHCPV6_CLIENT:
        return DropReason.DHCP_SERVER
    if destination != DHCPV6_SERVER:
        return None
    if not whole:
        return DropReason.FRAGMENT
    message = datagram[UDP_HEADER_SIZE:]
    if not message or _udp_length(datagram) != len(datagram):
        return DropReason.CUT_SHORT
    return dhcpv6_error(message) if message[0] in CLIENT_TYPES_V6 else DropReason.DHCP_SERVER


def _udp_length(datagram: Frame) -> int:
    return datagram[4] << 8 | datagram[5]
