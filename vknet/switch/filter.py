"""The egress filter of secure mode: which frames of clients may leave through the TAP.  Pure.

A client can be any program of any user, so the network outside cannot trust its frames.  The filter
passes only frames whose addresses and types it has checked, and drops all others:

    Ethernet      The source is the address of a station, and not that of the TAP.
    802.1Q, ad    VLAN tags are skipped; the payload is checked as if the frame were untagged.
    ARP           Ethernet and IPv4, a request or a reply.  The sender's MAC address is the source
                  of the frame.  The sender's IP address is a client's; it is 0.0.0.0 in a probe
                  (RFC 5227) for an address within a prefix.
    IPv4          The source is a client's; it is 0.0.0.0 in a broadcast to a DHCP server, and in an
                  IGMP report.  There is no source route.
    IPv6          The source is a client's.  It is :: in a multicast by which a host configures
                  itself: duplicate address detection, router solicitation, MLD report (RFC 3590).
    protocols     TCP, UDP, ESP, and of ICMP, ICMPv6 and IGMP the types that hosts send
                  (`vknet.switch.protocols`).
    DHCP          A message that a client sends, whole, about the source of the frame.
    neighbour     Each link-layer address is the source of the frame.  An advertised address is a
    discovery     client's, and its owner is no router.  An address that duplicate address detection
    (RFC 4861)    asks for is within a prefix or link-local.  The hop limit is 255.  The message is
                  not fragmented (RFC 6980).

An address is a client's if it is within a prefix or link-local, and is not an address of the host,
of a gateway, or of a station that was seen outside (`vknet.switch.addresses`).  A client may still
probe for such an address, and is told that it is in use.

All other EtherTypes are dropped, whether known or not, because their payload may carry addresses
that the filter does not check: RARP, PPPoE and MPLS do.  802.3 frames carry the spanning tree
protocol, with which a client could take over the bridge outside.

The content of a TCP or ESP packet, and of most UDP packets, is not checked.  Checksums are not
verified: the receiver drops a packet with a wrong one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vknet.counters import DropReason
from vknet.packet.ethernet import (
    ETHERNET_HEADER,
    ETHERNET_HEADER_SIZE,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    NO_MAC,
    TAGS,
    is_multicast,
    payload_of,
)
from vknet.packet.ip import IGMP
from vknet.switch.addresses import ClientAddresses
from vknet.switch.ipv4_rules import IPv4Rules
from vknet.switch.ipv6_rules import IPv6Rules
from vknet.switch.protocols import DEFAULT_PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vknet.packet.ethernet import Frame
    from vknet.switch.addresses import Address, Network

__all__ = ["SourceFilter"]


class SourceFilter:
    """Checks the frames that are to leave through the TAP.

    Args:
        prefixes: the networks whose addresses clients may use.
        tap_mac: the MAC address of the TAP.
        tap_addresses: the IP addresses of the host on the TAP, within the prefixes or not (its
            link-local address, for example).
        protocols: the IP protocols that may leave besides the default ones.  With IGMP, its
            queries may leave as well.
        gateways: IP addresses that are never a client's.
        roaming: IP addresses that stay a client's even if they are seen outside.

    Attributes:
        ipv4, ipv6: which addresses a client may use.
    """

    def __init__(
        self,
        prefixes: Iterable[Network],
        tap_mac: bytes,
        tap_addresses: Iterable[Address] = (),
        *,
        protocols: Iterable[int] = (),
        gateways: Iterable[Address] = (),
        roaming: Iterable[Address] = (),
    ) -> None:
        networks, gateways, roaming = list(prefixes), list(gateways), list(roaming)
        more = frozenset(protocols)
        self._tap_mac = tap_mac
        self.ipv4 = ClientAddresses(4, networks, gateways, roaming)
        self.ipv6 = ClientAddresses(6, networks, gateways, roaming)
        rules4 = IPv4Rules(self.ipv4, DEFAULT_PROTOCOLS | more, all_igmp=IGMP in more)
        self._check_ipv4, self._check_arp = rules4.check, rules4.check_arp
        self._check_ipv6 = IPv6Rules(self.ipv6, DEFAULT_PROTOCOLS | more).check
        self.set_host(tap_mac, tap_addresses)

    def set_host(self, tap_mac: bytes, tap_addresses: Iterable[Address]) -> None:
        """Set the MAC address of the TAP and the IP addresses of the host, as they are now."""
        addresses = list(tap_addresses)
        self._tap_mac = tap_mac
        self.ipv4.set_host(addresses)
        self.ipv6.set_host(addresses)

    def check(self, frame: Frame) -> DropReason | None:
        """Check a frame that is about to leave.

        Returns:
            Why the frame must be dropped; None if it may leave.
        """
        if len(frame) < ETHERNET_HEADER_SIZE:
            return DropReason.CUT_SHORT
        source: bytes
        ethertype: int
        _, source, ethertype = ETHERNET_HEADER.unpack_from(frame)
        if source == self._tap_mac:
            return DropReason.TAP_MAC
        if is_multicast(source) or source == NO_MAC:
            return DropReason.SOURCE_MAC
        start = ETHERNET_HEADER_SIZE
        if ethertype in TAGS:
            ethertype, start = payload_of(frame, ethertype)
        if ethertype == ETHERTYPE_IPV4:
            return self._check_ipv4(frame, start, source)
        if ethertype == ETHERTYPE_IPV6:
            return self._check_ipv6(frame, start, source)
        if ethertype == ETHERTYPE_ARP:
            return self._check_arp(frame, start, source)
        return DropReason.ETHERTYPE
