"""Secure mode in the switch: what clients may send, and what was learned outside.  Pure.

The uplink leads to a network that must be protected from clients.  What comes in through it is
learned: MAC addresses from every frame, IP addresses from ARP, neighbour discovery and multicast
listener discovery.  None of these is a client's.  The switch asks before it learns anything from a
frame of a client.

The network outside is trusted more than a client, so an address that both use belongs outside,
also if the client used it first: a client could otherwise be faster than a gateway.  Two cases need
care, because a client would be cut off:

* Some networks return a frame to where it came from: a loop, a bridge port in hairpin mode, a
  virtual switch with a team of cards.  Such an echo is known for frames to groups, which are the
  ones that return (`vknet.switch.echoes`).  It teaches nothing.
* One frame from outside with the MAC address of a client may be forged, or sent by mistake.  Such
  an address is contested.  It is held for a short time only, until it is seen outside again.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final

from vknet.counters import DropReason
from vknet.packet.ethernet import (
    ETHERNET_HEADER_SIZE,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    TAGS,
    payload_of,
)
from vknet.packet.ip import (
    ARP,
    ARP_FOR_IPV4,
    ICMPV6,
    ICMPV6_SIZE,
    IPV6,
    MLD2_REPORT,
    MLD_DONE,
    MLD_QUERY,
    MLD_REPORT,
    ND_TARGET_OFFSET,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SIZE,
    REDIRECT,
    ROUTER_SOLICITATION,
)
from vknet.switch.echoes import Echoes, SentFrames
from vknet.switch.ipv6_rules import IPV6_ADDRESS, IPV6_SKIPPED, ND_HOP_LIMIT, skip_extensions
from vknet.switch.sightings import Sightings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vknet.packet.ethernet import Frame
    from vknet.switch.filter import SourceFilter
    from vknet.switch.switch import Port

__all__ = ["CONTESTED_HOLD_S", "CONTESTED_PROOF_S", "Guard"]

CONTESTED_HOLD_S: Final = 30.0
"""How long a contested address is held after it was last seen outside."""

CONTESTED_PROOF_S: Final = 5.0
"""A contested address that is seen outside after this time is contested no more."""

CONTESTED_MAX: Final = 1024

# The headers of IPv6 behind which a message may say who has an address, and the offset of the byte
# that names the first of them in an untagged frame.
CLAIMING: Final = IPV6_SKIPPED | {ICMPV6}
NEXT_HEADER: Final = ETHERNET_HEADER_SIZE + 6

ND_TYPES: Final = frozenset(range(ROUTER_SOLICITATION, REDIRECT + 1))
MLD_TYPES: Final = frozenset((MLD_QUERY, MLD_REPORT, MLD_DONE, MLD2_REPORT))


class Guard:
    """The rules for frames of clients, and the memory of what is outside.

    Args:
        source_filter: decides which frames may leave; it knows which IP addresses were seen.
        gateways: MAC addresses that are never a client's.
        roaming: MAC addresses that stay a client's even if they are seen outside.

    Attributes:
        check: why a frame of a client must not leave; None if it may.
        macs: the MAC addresses of stations outside, contested ones not included.
    """

    def __init__(
        self,
        source_filter: SourceFilter,
        gateways: Iterable[bytes] = (),
        roaming: Iterable[bytes] = (),
    ) -> None:
        self.filter = source_filter
        self.check = source_filter.check
        self.macs: Sightings[bytes] = Sightings()
        self._gateways = frozenset(gateways)
        self._roaming = frozenset(roaming) - self._gateways
        # When they were first and last seen outside, in the order of the latter.
        self._contested: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        self._echoes = Echoes()
        # By the port of the client.
        self._sent: dict[Port, SentFrames] = {}

    @property
    def contested(self) -> int:
        """The number of contested MAC addresses."""
        return len(self._contested)

    # --- frames of clients ------------------------------------------------------------------------

    def refuse_source(self, mac: bytes) -> DropReason | None:
        """Return why no client may use a MAC address as its source; None if one may."""
        held = mac in self.macs or mac in self._contested or mac in self._gateways
        return DropReason.OUTSIDE_MAC if held else None

    def note_sent(self, port: Port, frame: Frame, now: float) -> None:
        """Note that a frame to a group, which came in through a port, leaves through the uplink."""
        sent = self._sent.get(port)
        if sent is None:
            sent = self._sent[port] = SentFrames(self._echoes)
        sent.note(frame, now)

    def forget(self, port: Port) -> None:
        """Forget what left from a port that is gone."""
        sent = self._sent.pop(port, None)
        if sent is not None:
            sent.close()

    # --- frames from outside ----------------------------------------------------------------------

    def is_echo(self, port: Port, frame: Frame, now: float) -> bool:
        """Whether a frame that came in through the uplink is the echo of one from a port."""
        sent = self._sent.get(port)
        return sent is not None and sent.is_echo(frame, now)

    def see_source(self, mac: bytes, now: float, *, is_clients: bool) -> None:
        """Learn the source of a frame that came in through the uplink.

        Args:
            mac: the source.
            now: the time.
            is_clients: a client has used it, and it was not seen outside since.
        """
        if mac in self._roaming:
            return
        if is_clients or mac in self._contested:
            first, _ = self._contested.pop(mac, (now, now))
            if now - first < CONTESTED_PROOF_S:
                self._contested[mac] = first, now
                if len(self._contested) > CONTESTED_MAX:
                    self._contested.popitem(last=False)
                return
        self.macs.see(mac, now)

    def learner(self, frame: Frame, now: float) -> Callable[[Frame], None] | None:
        """Return what learns IP addresses from frames with this Ethernet header.

        Returns:
            A function, to be called with each frame; None if such frames carry IPv4, which does not
            say who has an address.
        """
        ethertype = frame[12] << 8 | frame[13]
        if ethertype == ETHERTYPE_IPV4:
            return None
        if ethertype != ETHERTYPE_IPV6:
            return partial(self.learn, now=now)
        learn_ipv6, claiming = self._learn_ipv6, CLAIMING

        def learn(frame: Frame) -> None:
            # Most frames are done here, so this is as short as it can be.
            try:
                first_header = frame[NEXT_HEADER]
            except IndexError:
                return
            if first_header in claiming:
                learn_ipv6(frame, ETHERNET_HEADER_SIZE, now)

        return learn

    def learn(self, frame: Frame, now: float) -> None:
        """Learn the IP addresses that the sender of a frame from outside says it has."""
        ethertype, start = frame[12] << 8 | frame[13], ETHERNET_HEADER_SIZE
        if ethertype in TAGS:
            ethertype, start = payload_of(frame, ethertype)
        if ethertype == ETHERTYPE_IPV6:
            self._learn_ipv6(frame, start, now)
        elif ethertype == ETHERTYPE_ARP and len(frame) - start >= ARP.size:
            *kind, _, _, sender, _, _ = ARP.unpack_from(frame, start)
            if tuple(kind) == ARP_FOR_IPV4:
                self.filter.ipv4.see_outside(sender, now)

    def _learn_ipv6(self, frame: Frame, start: int, now: float) -> None:
        if len(frame) - start < IPV6.size + ICMPV6_SIZE:
            return
        _, length, kind, hop_limit, high, low, _, _ = IPV6.unpack_from(frame, start)
        start += IPV6.size
        stop = min(start + length, len(frame))
        if kind in IPV6_SKIPPED:
            chain = skip_extensions(frame, start, stop, kind)
            if isinstance(chain, DropReason):
                return
            kind, start, in_fragment = chain
            if in_fragment:
                return
        if kind != ICMPV6 or stop - start < ICMPV6_SIZE:
            return
        message = frame[start]
        if message not in MLD_TYPES and (message not in ND_TYPES or hop_limit != ND_HOP_LIMIT):
            return
        addresses = self.filter.ipv6
        addresses.see_outside(high << 64 | low, now)
        if message == NEIGHBOUR_ADVERTISEMENT and stop - start >= NEIGHBOUR_SIZE:
            high, low = IPV6_ADDRESS.unpack_from(frame, start + ND_TARGET_OFFSET)
            addresses.see_outside(high << 64 | low, now)

    # --- time -------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Forget what was not seen for too long.  It is to be called about once a second."""
        self.macs.expire(now)
        self.filter.ipv4.seen.expire(now)
        self.filter.ipv6.seen.expire(now)
        while self._contested:
            mac, (_, last) = next(iter(self._contested.items()))
            if now - last < CONTESTED_HOLD_S:
                break
            del self._contested[mac]
        for sent in self._sent.values():
            sent.expire(now)
