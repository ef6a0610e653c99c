"""The terms of a link, for a sender or a scheduler that has no peer."""

from __future__ import annotations

from typing import Final

from vknet.packet.virtio import ALL_OFFLOADS
from vknet.wire.blocks import FRAME_LIMIT_V2
from vknet.wire.negotiation import Negotiated

__all__ = ["TERMS"]

TERMS: Final = Negotiated(
    frame_limit=FRAME_LIMIT_V2,
    offloads=ALL_OFFLOADS,
    window=None,
    sends_acks=True,
    stamps_acks=False,
    timeout=15.0,
    peer_timeout=15.0,
    mtu=None,
    may_change_mtu=False,
)
"""Between two sides that can do everything; a test replaces the terms that it checks."""
