"""Applies the negotiated terms of a link to its endpoint: offloads and MTU."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vknet.errors import SetupError

if TYPE_CHECKING:
    from vknet.endpoints.base import Endpoint
    from vknet.wire.hello import Hello
    from vknet.wire.negotiation import Negotiated

__all__ = ["apply"]

log = logging.getLogger(__name__)


async def apply(
    endpoint: Endpoint, terms: Negotiated, ours: Hello, theirs: Hello, peer: str
) -> None:
    """Set up an endpoint as negotiated; where its MTU cannot be changed, warn.

    Args:
        endpoint: this side's.
        terms: of the link.
        ours: this side's HELLO.
        theirs: the peer's HELLO.
        peer: what people call the peer.
    """
    await endpoint.set_offload(terms.offloads)
    if ours.mtu is None or terms.mtu is None:
        return
    try:
        done = terms.may_change_mtu and await endpoint.set_mtu(terms.mtu)
    except SetupError as exc:
        log.warning("%s", exc)
        done = False
    if not done:
        log.warning(
            "%s has an MTU of %d, and %s on %s has an MTU of %s; give both the same",
            ours.endpoint,
            ours.mtu,
            theirs.endpoint,
            peer,
            theirs.mtu,
        )
    elif terms.mtu != ours.mtu:
        log.info("%s now has an MTU of %d, like the other side", ours.endpoint, terms.mtu)
