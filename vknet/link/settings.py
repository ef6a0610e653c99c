"""The settings of a link.  Pure.  It is quick to import: the command lines need it before trio."""

from __future__ import annotations

from dataclasses import dataclass

from vknet.packet.virtio import DEFAULT_OFFLOADS, Offload
from vknet.wire.blocks import Wire
from vknet.wire.keepalive import DEFAULT_TIMEOUT_S

__all__ = ["LinkSettings"]


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """The settings of one link.

    Attributes:
        wire: the wire version to speak.  `Wire.V2` suits two programs that both use this library.
        timeout: seconds of silence after which the peer counts as dead.  The link watches them if
            the wire is v2, and ssh if it is v1.
        adopt_timeout: whether a timeout in the peer's HELLO replaces this one.
        offloads: the offloads to use in either direction, as far as both endpoints accept them;
            `NO_OFFLOADS` is none.
        window: the limit on the bytes in flight to a peer that sends ACKs.  None measures the path
            and adapts the limit; 0 is no limit, in either direction.
        hello_timeout: seconds from reaching the peer until it proves to be vknet, by a HELLO or,
            with `Wire.AUTO`, by a valid v1 block; as long as a login may take.  No frame is sent
            before.  `Wire.V1` has no such limit, and sends as soon as the peer is reached.
    """

    wire: Wire = Wire.V2
    timeout: float = DEFAULT_TIMEOUT_S
    adopt_timeout: bool = False
    offloads: Offload = DEFAULT_OFFLOADS
    window: int | None = None
    hello_timeout: float = 120.0
