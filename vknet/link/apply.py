"""What follows for an endpoint from the two HELLOs: its MTU, and what it may leave undone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from vknet.errors import SetupError
from vknet.wire.hello import agree_mtu

if TYPE_CHECKING:
    from vknet.endpoints.base import Endpoint
    from vknet.wire.hello import Hello

__all__ = ["adapt"]

log = logging.getLogger("vknet")

# RFC 8200, section 5.
IPV6_MIN_MTU: Final = 1280


async def adapt(
    endpoint: Endpoint, ours: Hello, theirs: Hello, peer: str, offloads: frozenset[str]
) -> None:
    """Make an endpoint what the peer can do with.

    Args:
        endpoint: of this side.
        ours: this side's HELLO.
        theirs: the peer's.
        peer: who that is, for people.
        offloads: what this side may leave undone in the frames that go to the peer, by name.
    """
    await endpoint.set_offload(offloads & theirs.offloads)
    await _adapt_mtu(endpoint, ours, theirs, peer)


async def _adapt_mtu(endpoint: Endpoint, ours: Hello, theirs: Hello, peer: str) -> None:
    mtu = agree_mtu(ours, theirs)
    if ours.mtu is None or mtu is None:
        return
    try:
        # Below it Linux takes the IPv6 addresses off an interface, and off its bridge: that may
        # be done by a person here, but not by a peer.
        follow = mtu == ours.mtu or mtu >= IPV6_MIN_MTU
        done = follow and await endpoint.set_mtu(mtu)
    except SetupError as exc:
        log.warning("%s", exc)
        done = False
    if not done:
        log.warning(
            "%s has an MTU of %d and %s on %s one of %s; give both the same",
            ours.endpoint,
            ours.mtu,
            theirs.endpoint,
            peer,
            theirs.mtu,
        )
    elif mtu != ours.mtu:
        log.info("%s now has an MTU of %d, as the other side", ours.endpoint, mtu)
