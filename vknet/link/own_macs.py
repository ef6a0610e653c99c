"""Notice that the far side has one of the host's own MAC addresses, or returns its frames.

Two bridges with the same MAC address look like a good link that carries nothing between the two
hosts: each takes the other's frames for its own.  Clones of one machine have such bridges, because
an address can be derived from the machine ID and the bridge's name.  The HELLO tells the addresses
of both sides.  An address that changes later, and a loop, show in the frames that arrive.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Final

from vknet.packet.ethernet import MAC_SIZE, format_mac
from vknet.packet.virtio import VNET_HEADER_SIZE, OffloadFrame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.endpoints.base import Endpoint
    from vknet.packet.virtio import AnyFrame
    from vknet.wire.hello import Hello

__all__ = ["OwnMacWatch"]

log = logging.getLogger(__name__)

# Where the source address of a frame is, and of an offload frame with its header.
SOURCE: Final = slice(MAC_SIZE, 2 * MAC_SIZE)
OFFLOAD_SOURCE: Final = slice(VNET_HEADER_SIZE + MAC_SIZE, VNET_HEADER_SIZE + 2 * MAC_SIZE)


class OwnMacWatch:
    """Tells the user once a link about an own MAC address on the far side.

    Args:
        endpoint: knows the own MAC addresses.
        peer: what people call the peer.
    """

    def __init__(self, endpoint: Endpoint, peer: str) -> None:
        self._endpoint = endpoint
        self._peer = peer
        self._told = False

    def on_hello(self, theirs: Hello) -> None:
        """Compare the addresses of both sides."""
        own = self._endpoint.macs
        shared = theirs.macs & own.keys()
        if not shared or self._told:
            return
        self._told = True
        mac = min(shared)
        log.warning(
            "%s and an interface of %s have the same MAC address %s, as on cloned machines: the two"
            " hosts cannot reach each other; on one of them: ip link set %s address %s",
            own[mac],
            self._peer,
            format_mac(mac),
            own[mac],
            format_mac(b"\x02" + secrets.token_bytes(MAC_SIZE - 1)),
        )

    def on_frames(self, frames: Sequence[AnyFrame]) -> None:
        """Look at the first frame of a batch that arrived.

        One frame of each batch is enough: on an idle link it is the only one, and in a loop the
        frames return without end.
        """
        if self._told or not self._endpoint.macs:
            return
        frame = frames[0]
        data, source = (
            (frame.data, OFFLOAD_SOURCE) if isinstance(frame, OffloadFrame) else (frame, SOURCE)
        )
        mac = bytes(data[source])
        if mac in self._endpoint.macs:
            self._told = True
            log.warning(
                "a frame from %s has the MAC address %s of %s here: a second link or another path"
                " between the same networks makes a loop, or a station there has that address",
                self._peer,
                format_mac(mac),
                self._endpoint.macs[mac],
            )
