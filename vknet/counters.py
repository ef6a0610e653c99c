"""What one direction carried, and why frames were dropped.  Pure.

The values of `DropReason` are an interface: they are keys in ``vknetd --status --json``, and both
commands print them.  A new one may come; none goes or changes its meaning.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

__all__ = ["Counters", "DropReason", "TrafficCounters"]


class DropReason(enum.StrEnum):
    """Why a frame was dropped: a stable slug, and a text for people.

    Attributes:
        text: what it means, without a full stop.
    """

    text: str

    def __new__(cls, slug: str, text: str) -> Self:
        reason = str.__new__(cls, slug)
        reason._value_ = slug
        reason.text = text
        return reason

    # An endpoint.
    EMPTY = "empty", "empty frame"
    RUNT = "runt", "shorter than an Ethernet header"
    TRUNCATED = "truncated", "longer than the endpoint can read"
    INTERFACE_DOWN = "interface-down", "the interface is down"
    ENDPOINT_FULL = "endpoint-full", "the endpoint has no room"
    ENDPOINT_REFUSED = "endpoint-refused", "the endpoint refused it"
    EARLY = "early", "waited in the endpoint before the first link"
    STALE = "stale", "waited in the endpoint while there was no link"

    # The queue in front of a link or a port.
    QUEUE_DELAY = "queue-delay", "waited too long in the queue (CoDel)"
    QUEUE_FULL = "queue-full", "the queue is full"
    LINK_ENDED = "link-ended", "still queued when the link ended"

    # What the receiver cannot take.
    OVER_PEER_LIMIT = "over-peer-limit", "longer than the peer's frame limit"
    UNKNOWN_OFFLOAD = "unknown-offload", "an offload that is not known here"
    BAD_OFFLOAD_HEADER = "bad-offload-header", "an offload header that does not fit its frame"
    OVER_MTU = "over-mtu", "segments longer than the endpoint's MTU"

    # A switch, and its filter in secure mode.
    SOURCE_NOT_ALLOWED = "source-not-allowed", "a source MAC address that this port may not use"
    CUT_SHORT = "cut-short", "a header is cut short"
    MALFORMED = "malformed", "malformed"
    ETHERTYPE = "ethertype", "an EtherType that is not let through"
    SOURCE_MAC = "source-mac", "the source MAC address is not that of a station"
    TAP_MAC = "tap-mac", "the TAP's MAC address as the source"
    OUTSIDE_MAC = "outside-mac", "the source MAC address of a station outside"
    OUTSIDE_ADDRESS = "outside-address", "an IP address of a station outside"
    IPV4_SOURCE = "ipv4-source", "an IPv4 source address not allowed for clients"
    IPV6_SOURCE = "ipv6-source", "an IPv6 source address not allowed for clients"
    ARP_SENDER = "arp-sender", "an ARP sender address not allowed for clients"
    ARP_MAC = "arp-mac", "an ARP sender with another station's MAC address"
    ND_TARGET = "nd-target", "a neighbour discovery target not allowed for clients"
    ND_MAC = "nd-mac", "neighbour discovery with another station's MAC address"
    FRAGMENT = "fragment", "a fragment that could hide what it carries"
    PROTOCOL = "protocol", "an IP protocol that is not let through"
    MESSAGE_TYPE = "message-type", "an ICMP, ICMPv6 or IGMP type that is not let through"
    SOURCE_ROUTE = "source-route", "a source route"
    ROUTER_MESSAGE = "router-message", "a message that only a router sends"
    DHCP_SERVER = "dhcp-server", "a message that only a DHCP server or relay sends"
    DHCP_MAC = "dhcp-mac", "a DHCP request with another station's MAC address"

    # A simulated path.
    LOSS = "loss", "lost on a simulated path"


@dataclass(slots=True)
class TrafficCounters:
    """What went in one direction.

    Attributes:
        frames: frames carried.
        bytes: their bytes, Ethernet headers included, block headers not.
        drops: frames dropped, by reason.
        ecn_marks: frames marked with ECN's CE where others would have been dropped.
    """

    frames: int = 0
    bytes: int = 0
    drops: Counter[DropReason] = field(default_factory=Counter)
    ecn_marks: int = 0

    def copy(self) -> TrafficCounters:
        """A snapshot."""
        return TrafficCounters(self.frames, self.bytes, Counter(self.drops), self.ecn_marks)


@dataclass(slots=True)
class Counters:
    """Both directions, as seen from the local endpoint or from a port.

    Attributes:
        outbound: from the local endpoint to the peer, or out of the switch through the port.
        inbound: from the peer to the local endpoint, or into the switch through the port.
    """

    outbound: TrafficCounters = field(default_factory=TrafficCounters)
    inbound: TrafficCounters = field(default_factory=TrafficCounters)
