"""How a link is to behave.  Pure, and quick to import: the command lines need it before trio."""

from __future__ import annotations

from dataclasses import dataclass

from vknet.packet.virtio import DEFAULT_OFFLOADS, Offload
from vknet.wire.blocks import Wire
from vknet.wire.keepalive import DEFAULT_TIMEOUT_S

__all__ = ["LinkSettings"]


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How a link behaves.

    Attributes:
        wire: what to speak.  `Wire.V2` suits two programs that both use this library.
        timeout: seconds of silence after which the peer is dead; watched by the link where the
            wire is v2, and by ssh where it is v1.
        adopt_timeout: take the peer's timeout instead, if it comes with a HELLO.
        offloads: what may be left undone in the frames that are carried, either way, by the names
            of `vknet.packet.virtio`, where both endpoints can; frozenset() is nothing.
        window: bytes that may be under way to a peer that acknowledges them; None to find out, 0
            for no bound, which holds for both directions.
        hello_timeout: seconds that a peer which was reached may take until its first valid block;
            as long as a login may take.  No frame is sent to it before that, unless the wire is
            v1.
    """

    wire: Wire = Wire.V2
    timeout: float = DEFAULT_TIMEOUT_S
    adopt_timeout: bool = False
    offloads: Offload = DEFAULT_OFFLOADS
    window: int | None = None
    hello_timeout: float = 120.0
