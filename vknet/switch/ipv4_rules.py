"""Which IPv4 packets and ARP messages of a client may leave in secure mode.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vknet.counters import DropReason
from vknet.packet.ip import (
    ARP,
    ARP_FOR_IPV4,
    ARP_REPLY,
    ARP_REQUEST,
    DHCPV4_CLIENT,
    DHCPV4_SERVER,
    ICMPV4,
    IGMP,
    IGMP_SIZE,
    IPV4,
    IPV4_HEADER_MIN,
    IPV4_MORE_FRAGMENTS,
    IPV4_OFFSET,
    PORTS,
    TCP,
    UDP,
)
from vknet.switch.dhcp_rules import DHCPV4_PORTS, check_dhcpv4
from vknet.switch.protocols import (
    GROUP_ROUTING_PORTS,
    ICMPV4_OUT,
    ICMPV4_ROUTERS,
    IGMP_OUT,
    IGMP_ROUTERS,
    ROUTING_PORTS,
)

if TYPE_CHECKING:
    from vknet.packet.ethernet import Frame
    from vknet.switch.addresses import ClientAddresses

__all__ = ["IPv4Rules"]

IPV4_BROADCAST: Final = 0xFFFFFFFF
IPV4_MULTICAST: Final = 0xE0000000
"""From here on: multicast, reserved, broadcast."""
IPV4_RESERVED: Final = 0xF0000000

FRAGMENTED: Final = IPV4_OFFSET | IPV4_MORE_FRAGMENTS
PLAIN_HEADER: Final = 0x45
"""Version 4, and a header without options."""

SPECIAL_PORTS: Final = DHCPV4_PORTS | ROUTING_PORTS | GROUP_ROUTING_PORTS

# RFC 791: no operation, end of list, loose and strict source route.
NO_OPERATION, END_OF_OPTIONS = 1, 0
SOURCE_ROUTES: Final = frozenset((131, 137))


class IPv4Rules:
    """Checks what is behind the Ethernet header and the VLAN tags.

    Args:
        addresses: which addresses a client may use.
        protocols: the IP protocols that may leave.
        all_igmp: IGMP queries may leave, too.
    """

    def __init__(
        self, addresses: ClientAddresses, protocols: frozenset[int], *, all_igmp: bool
    ) -> None:
        self._addresses = addresses
        # The set is never replaced, so a packet costs one look-up in it.
        self._usable = addresses.usable
        self._protocols = protocols
        self._all_igmp = all_igmp

    def check_arp(self, frame: Frame, start: int, mac: bytes) -> DropReason | None:
        """Check an ARP message at `start`; `mac` is the source of the frame."""
        if len(frame) - start < ARP.size:
            return DropReason.CUT_SHORT
        *kind, operation, sender_mac, sender, _, target = ARP.unpack_from(frame, start)
        if tuple(kind) != ARP_FOR_IPV4 or operation not in (ARP_REQUEST, ARP_REPLY):
            return DropReason.MALFORMED
        if sender_mac != mac:
            return DropReason.ARP_MAC
        if sender or operation == ARP_REPLY:
            return self._addresses.refuse(sender, DropReason.ARP_SENDER)
        # A host that claims an address gives it up when it sees a probe for it, so a client may
        # probe for addresses within the prefixes only.
        return None if self._addresses.within(target) else DropReason.ARP_SENDER

    def check(self, frame: Frame, start: int, mac: bytes) -> DropReason | None:
        """Check a packet at `start`; `mac` is the source of the frame."""
        available = len(frame) - start
        if available < IPV4_HEADER_MIN:
            return DropReason.CUT_SHORT
        first, total, fragment, protocol, source, destination = IPV4.unpack_from(frame, start)
        size = IPV4_HEADER_MIN if first == PLAIN_HEADER else (first & 0x0F) * 4
        if first >> 4 != 4 or size < IPV4_HEADER_MIN or total < size:
            return DropReason.MALFORMED
        if total > available:
            return DropReason.CUT_SHORT
        if source not in self._usable:
            reason = (
                self._addresses.refuse(source, DropReason.IPV4_SOURCE)
                if source
                else _check_unspecified(protocol, fragment, destination)
            )
            if reason is not None:
                return reason
        if protocol not in self._protocols:
            return DropReason.PROTOCOL
        if first != PLAIN_HEADER:
            reason = _check_options(frame[start + IPV4_HEADER_MIN : start + size])
            if reason is not None:
                return reason
        # Only the first fragment has the header that is checked here.
        if protocol == TCP or (fragment & IPV4_OFFSET and protocol != IGMP):
            return None
        stop = start + total
        start += size
        if protocol == UDP:
            if stop - start < PORTS.size:
                return DropReason.CUT_SHORT
            ports = PORTS.unpack_from(frame, start)
            if source and not SPECIAL_PORTS.intersection(ports):
                return None
            whole = not fragment & FRAGMENTED
            return _check_udp(ports, frame[start:stop], source, destination, mac, whole=whole)
        if protocol == ICMPV4:
            return _check_type(frame[start:stop], 1, ICMPV4_OUT, ICMPV4_ROUTERS)
        if protocol == IGMP and not self._all_igmp:
            if fragment & FRAGMENTED:
                return DropReason.FRAGMENT
            return _check_type(frame[start:stop], IGMP_SIZE, IGMP_OUT, IGMP_ROUTERS)
        return None


def _check_unspecified(protocol: int, fragment: int, destination: int) -> DropReason | None:
    """Check a packet from 0.0.0.0: a message to a DHCP server, or an IGMP report."""
    if fragment & FRAGMENTED:
        return DropReason.IPV4_SOURCE
    if protocol == UDP and destination == IPV4_BROADCAST:
        return None
    if protocol == IGMP and IPV4_MULTICAST <= destination < IPV4_RESERVED:
        return None
    return DropReason.IPV4_SOURCE


def _check_options(options: Frame) -> DropReason | None:
    """Refuse source routes, by which a host outside would forward the packet."""
    at, size = 0, len(options)
    while at < size and options[at] != END_OF_OPTIONS:
        if options[at] in SOURCE_ROUTES:
            return DropReason.SOURCE_ROUTE
        if options[at] == NO_OPERATION:
            at += 1
            continue
        if at + 2 > size or not 2 <= options[at + 1] <= size - at:
            return DropReason.MALFORMED
        at += options[at + 1]
    return None


def _check_udp(
    ports: tuple[int, ...],
    datagram: Frame,
    source: int,
    destination: int,
    mac: bytes,
    *,
    whole: bool,
) -> DropReason | None:
    """Check a UDP datagram from 0.0.0.0, or from or to one of `SPECIAL_PORTS`."""
    if not source and ports != (DHCPV4_CLIENT, DHCPV4_SERVER):
        return DropReason.IPV4_SOURCE
    is_group = destination >= IPV4_MULTICAST
    if ports[1] in ROUTING_PORTS or (is_group and ports[1] in GROUP_ROUTING_PORTS):
        return DropReason.ROUTER_MESSAGE
    return None if DHCPV4_PORTS.isdisjoint(ports) else check_dhcpv4(datagram, mac, whole=whole)


def _check_type(
    payload: Frame, size: int, allowed: frozenset[int], routers: frozenset[int]
) -> DropReason | None:
    """Check the first byte of a message of at least `size` bytes."""
    if len(payload) < size:
        return DropReason.CUT_SHORT
    if payload[0] in allowed:
        return None
    return DropReason.ROUTER_MESSAGE if payload[0] in routers else DropReason.MESSAGE_TYPE
