"""What follows from the two HELLOs of a link, for one side.  Pure.

`negotiate` is the only place that compares the HELLOs; the session and the link apply its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vknet.packet.ip import IPV6_MIN_MTU
from vknet.wire.blocks import FRAME_LIMIT_V2

if TYPE_CHECKING:
    from vknet.packet.virtio import Offload
    from vknet.wire.hello import Hello

__all__ = ["Negotiated", "negotiate"]


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The terms of a link for one side.

    Attributes:
        frame_limit: the longest frame that may be sent to the peer, in bytes.
        offloads: what may be left undone in the frames that are sent to the peer.
        window: bytes that may be in flight to the peer; None estimates them, and 0 is no limit.
        sends_acks: this side acknowledges the peer's frames.
        stamps_acks: and its ACKs carry a time stamp.
        timeout: seconds of silence after which this side declares the peer dead.
        peer_timeout: the same for the peer.
        mtu: the MTU that both endpoints should have, in bytes; None if neither has one.
        may_change_mtu: this side's endpoint may be set to that MTU on behalf of the peer.
    """

    frame_limit: int
    offloads: Offload
    window: int | None
    sends_acks: bool
    stamps_acks: bool
    timeout: float
    peer_timeout: float
    mtu: int | None
    may_change_mtu: bool


def negotiate(ours: Hello, theirs: Hello, *, adopt_timeout: bool = False) -> Negotiated:
    """Derive the terms of a link.

    Args:
        ours: this side's HELLO.
        theirs: the peer's HELLO.
        adopt_timeout: use the peer's timeout on this side, too.
    """
    window = _window(ours, theirs)
    mtu = _mtu(ours, theirs)
    return Negotiated(
        frame_limit=min(theirs.frame_limit, FRAME_LIMIT_V2),
        offloads=(ours.offloads & theirs.offloads).usable,
        window=window,
        sends_acks=window != 0,
        stamps_acks=theirs.ack_time,
        timeout=theirs.timeout if adopt_timeout else ours.timeout,
        peer_timeout=theirs.timeout,
        mtu=mtu,
        # Below this MTU Linux takes the IPv6 addresses off an interface, and off its bridge.  The
        # user may want that; the peer may not cause it.
        may_change_mtu=ours.mtu is not None
        and mtu is not None
        and (mtu == ours.mtu or mtu >= IPV6_MIN_MTU),
    )


def _mtu(ours: Hello, theirs: Hello) -> int | None:
    """The lower MTU; of those that a user fixed, if any is fixed.

    A TAP that vknet made for itself follows the other side; one whose MTU a user chose does not.
    """
    fixed = [hello.mtu for hello in (ours, theirs) if hello.mtu is not None and hello.mtu_fixed]
    free = [hello.mtu for hello in (ours, theirs) if hello.mtu is not None]
    return min(fixed or free, default=None)


def _window(ours: Hello, theirs: Hello) -> int | None:
    """No limit if either side wants none; else this side's number, or else the peer's."""
    if 0 in (ours.window, theirs.window):
        return 0
    return theirs.window if ours.window is None else ours.window
