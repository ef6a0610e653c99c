"""The offload header before a frame: what the kernel left undone.  Pure.

If the network card can compute checksums and cut segments, the kernel leaves both to it.  It hands
over up to 64 KB at a time with one set of headers, a *super-frame*, and a checksum field that holds
the sum of the pseudo header only.  A TAP can act as such a card.  Ten bytes before each frame then
say what is left to do: `struct virtio_net_hdr` (linux/virtio_net.h; VIRTIO 1.2, section 5.1.6),
    here
always little-endian:

    u8 flags    u8 gso_type    u16 hdr_len    u16 gso_size    u16 csum_start    u16 csum_offset

    flags         1: a checksum is wanted, from csum_start to the end of the frame; it goes to
                  csum_start + csum_offset.  No other flag is accepted from a peer
    gso_type      0: no segments; 1: TCP over IPv4; 4: TCP over IPv6; 5: UDP; 0x80 added
                  to 1 or 4: only the first segment keeps CWR
    hdr_len       the size of the headers, as a hint
    gso_size      payload bytes of each segment but the last

All positions count from the frame's first byte.  The payload of an OFFLOAD block is this header and
the frame, and so is what a program reads from and writes to such a TAP.  An `OffloadFrame` holds
both as they came.

The header of a peer comes from a stranger.  `validate` checks it against its frame, so that a frame
that passes asks of this kernel only what kernels themselves ask of a card.
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from vknet.counters import DropReason
from vknet.packet.ethernet import (
    ETHERNET_HEADER_SIZE,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    Frame,
    payload_of,
)
from vknet.packet.ip import (
    FRAGMENT,
    IPV4_HEADER_MIN,
    IPV6_EXTENSIONS_MAX,
    IPV6_HEADER_SIZE,
    IPV6_OPTION_HEADERS,
    TCP,
    TCP_HEADER_MIN,
    UDP,
    UDP_HEADER_SIZE,
    extension_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ALL_OFFLOADS",
    "DEFAULT_OFFLOADS",
    "FAST_PATH_OFFSETS",
    "KNOWN_KINDS",
    "NO_OFFLOADS",
    "OFFLOAD_MIN",
    "PLAIN_HEADER",
    "VNET_HEADER",
    "VNET_HEADER_SIZE",
    "AnyFrame",
    "Offload",
    "OffloadFrame",
    "Offsets",
    "header_kinds",
    "validate",
]

VNET_HEADER: Final = struct.Struct("<BBHHHH")
VNET_HEADER_SIZE: Final = VNET_HEADER.size
PLAIN_HEADER: Final = bytes(VNET_HEADER_SIZE)
"""The header of a plain frame: nothing is left to do."""

OFFLOAD_MIN: Final = VNET_HEADER_SIZE + ETHERNET_HEADER_SIZE
"""The minimum size of an offload header and its frame together, in bytes."""


class Offload(enum.Flag):
    """Work that may be left undone in a frame, as TUN_F_* of linux/if_tun.h.

    USO is one flag here and two in the kernel (TUN_F_USO4, TUN_F_USO6).
    """

    CSUM = enum.auto()
    TSO4 = enum.auto()
    TSO6 = enum.auto()
    TSO_ECN = enum.auto()
    USO = enum.auto()

    @classmethod
    def from_names(cls, names: Iterable[str]) -> Offload:
        """Combine offloads by their names in a HELLO; unknown names are left out."""
        found = NO_OFFLOADS
        for name in names:
            found |= _BY_NAME.get(name, NO_OFFLOADS)
        return found

    @property
    def names(self) -> list[str]:
        """The names in a HELLO, in the order of this enum."""
        return [name for name, offload in _BY_NAME.items() if offload in self]

    @property
    def usable(self) -> Offload:
        """This set without what cannot work: all need CSUM, and TSO_ECN needs TSO4 or TSO6.

        Source: drivers/net/tun.c, set_offload.
        """
        if Offload.CSUM not in self:
            return NO_OFFLOADS
        tso = Offload.TSO4 | Offload.TSO6
        return self if self & tso else self & ~Offload.TSO_ECN


_BY_NAME: Final = {offload.name.lower(): offload for offload in Offload if offload.name}

NO_OFFLOADS: Final = Offload(0)

ALL_OFFLOADS: Final = ~NO_OFFLOADS

DEFAULT_OFFLOADS: Final = ALL_OFFLOADS & ~Offload.USO
"""The offloads in use unless the user says otherwise.  Some kernels (6.17, 7.0) corrupt USO
frames."""

NEEDS_CSUM: Final = 1
NO_GSO: Final = 0
GSO_TCPV4: Final = 1
GSO_TCPV6: Final = 4
GSO_UDP: Final = 5
GSO_ECN: Final = 0x80

# linux/tcp.h, TCP_MIN_GSO_SIZE.  Smaller segments are refused: 64 KB in one-byte segments would be
# an attack.
TCP_SEGMENT_MIN: Final = 8
# Bytes from the start of the frame.  The kernel adds its headroom and stores the sum in sixteen
# bits (linux/skbuff.h: csum_start); a larger value overflows, and it refuses the frame.
CSUM_START_MAX: Final = 0xF000
# linux/udp.h: UDP_MAX_SEGMENTS.
UDP_SEGMENTS_MAX: Final = 128

# Offset of the checksum in the transport header, in bytes.
UDP_CHECK_OFFSET: Final = 6
CHECK_OFFSET: Final = {TCP: 16, UDP: UDP_CHECK_OFFSET}


class OffloadFrame:
    """A frame with its offload header; its `len` is that of the frame alone.

    Attributes:
        data: the header and the frame, at least `OFFLOAD_MIN` bytes.  Nothing else about it has
            been checked.
    """

    __slots__ = ("data",)

    def __init__(self, data: Frame) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data) - VNET_HEADER_SIZE

    def __repr__(self) -> str:
        return f"OffloadFrame({bytes(self.data)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OffloadFrame) and self.data == other.data

    __hash__ = None  # type: ignore[assignment]  # data may be a view of memory that changes

    @property
    def frame(self) -> memoryview:
        """The frame alone, as a view."""
        return memoryview(self.data)[VNET_HEADER_SIZE:]

    def with_frame(self, frame: bytes) -> OffloadFrame:
        """Return the same header with another frame that it fits, such as one with an ECN mark."""
        return OffloadFrame(bytes(self.data[:VNET_HEADER_SIZE]) + frame)

    @property
    def is_super(self) -> bool:
        """Whether the header asks for segmentation."""
        return self.data[1] != NO_GSO

    @property
    def kind(self) -> int:
        """The flags and the GSO type as one number, as in `header_kinds`."""
        return self.data[0] | self.data[1] << 8


AnyFrame: TypeAlias = "Frame | OffloadFrame"
"""A plain frame or an offload frame."""


class Offsets(NamedTuple):
    """Offsets in the data of an offload frame, its header included, in bytes."""

    network: int
    """The IP header."""
    transport: int
    """The TCP or UDP header.  Without segmentation it is whatever follows the outermost IP
    header."""
    payload: int
    """The payload to cut; 0 if the frame need not be cut, as where it makes only one segment."""
    size: int
    """Payload bytes of each segment but the last."""


def header_kinds(offloads: Offload) -> frozenset[int]:
    """Return the values of `OffloadFrame.kind` that these offloads allow.

    A header that asks for nothing has no kind: such a frame is a plain one.
    """
    offloads = offloads.usable
    types = {NO_GSO} if offloads else set()
    for offload, gso_type in (
        (Offload.TSO4, GSO_TCPV4),
        (Offload.TSO6, GSO_TCPV6),
        (Offload.USO, GSO_UDP),
    ):
        if offload in offloads:
            types.add(gso_type)
            if Offload.TSO_ECN in offloads and gso_type != GSO_UDP:
                types.add(gso_type | GSO_ECN)
    return frozenset(NEEDS_CSUM | gso_type << 8 for gso_type in types)


KNOWN_KINDS: Final = header_kinds(ALL_OFFLOADS)


# The most common frame: TCP or UDP directly behind a plain IPv4 header, and only the checksum is
# wanted.  The fields are the offload header, the EtherType with IP's first byte, the fragment field
# and the protocol.
FAST_PATH: Final = struct.Struct("!10s12x3s5xHxB")
FAST_PATH_IPV4: Final = b"\x08\x00\x45"
DONT_FRAGMENT: Final = 0x4000
FAST_PATH_NETWORK: Final = OFFLOAD_MIN
FAST_PATH_TRANSPORT: Final = OFFLOAD_MIN + IPV4_HEADER_MIN
# The minimum size in bytes of a frame with these fields; for all others a size that no frame has.
NOT_FAST_PATH: Final = 1 << 32
FAST_PATH_MIN_SIZE: Final = {
    (
        VNET_HEADER.pack(
            NEEDS_CSUM, NO_GSO, 0, 0, FAST_PATH_TRANSPORT - VNET_HEADER_SIZE, check_offset
        ),
        FAST_PATH_IPV4,
        fragment,
        protocol,
    ): FAST_PATH_TRANSPORT + check_offset + 2
    for protocol, check_offset in CHECK_OFFSET.items()
    for fragment in (0, DONT_FRAGMENT)
}
FAST_PATH_OFFSETS: Final = Offsets(FAST_PATH_NETWORK, FAST_PATH_TRANSPORT, 0, 0)
"""`validate` returns this very object on the fast path, so a caller may compare by identity."""

# For each GSO type the IP version, if it requires one, and the transport protocol.
GSO_REQUIRES: Final[dict[int, tuple[int | None, int]]] = {
    GSO_TCPV4: (4, TCP),
    GSO_TCPV6: (6, TCP),
    GSO_UDP: (None, UDP),
}


def validate(data: Frame, mtu: int | None = None) -> Offsets | DropReason:
    """Check an offload header against its frame.

    Args:
        data: that of an `OffloadFrame`.
        mtu: the limit for each segment of a super-frame in bytes, from the IP header on; None is
            no limit.

    Returns:
        The offsets, or why the header does not fit the frame.
    """
    size = len(data)
    if size >= FAST_PATH.size and size >= FAST_PATH_MIN_SIZE.get(
        FAST_PATH.unpack_from(data), NOT_FAST_PATH
    ):
        return FAST_PATH_OFFSETS
    return _validate(data, mtu)


def _validate(data: Frame, mtu: int | None) -> Offsets | DropReason:
    """Do what `validate` does, for any frame."""
    flags, gso_type, hdr_len, gso_size, csum_start, csum_offset = VNET_HEADER.unpack_from(data)
    if flags | gso_type << 8 not in KNOWN_KINDS:
        return DropReason.UNKNOWN_OFFLOAD
    found = _headers(data)
    if found is None or hdr_len > len(data) - VNET_HEADER_SIZE:
        return DropReason.BAD_OFFLOAD_HEADER
    network, transport, protocol, end = found
    start = VNET_HEADER_SIZE + csum_start
    if start + csum_offset + 2 > len(data) or csum_start > CSUM_START_MAX:
        return DropReason.BAD_OFFLOAD_HEADER
    check_offset = CHECK_OFFSET.get(protocol)
    if gso_type == NO_GSO:
        # csum_start may lie behind the outer transport header: in a tunnel it is the inner
        # checksum. Of a protocol that is not in `CHECK_OFFSET` any offset is possible.
        fits = start > transport or (start == transport and check_offset in (None, csum_offset))
        return Offsets(network, transport, 0, 0) if fits else DropReason.BAD_OFFLOAD_HEADER
    version, wanted = GSO_REQUIRES[gso_type & ~GSO_ECN]
    if (
        start != transport
        or csum_offset != check_offset
        or protocol != wanted
        or end != len(data)
        or (version is not None and data[network] >> 4 != version)
    ):
        return DropReason.BAD_OFFLOAD_HEADER
    payload = _payload(data, transport, protocol, gso_size)
    if payload is None:
        return DropReason.BAD_OFFLOAD_HEADER
    longest = payload - network + min(gso_size, len(data) - payload)
    if mtu is not None and longest > mtu:
        return DropReason.OVER_MTU
    if len(data) - payload <= gso_size:
        return Offsets(network, transport, 0, 0)
    return Offsets(network, transport, payload, gso_size)


def _headers(data: Frame) -> tuple[int, int, int, int] | None:
    """Find the headers of the IP packet.

    Returns:
        The offsets of the IP header and of the transport header, the transport protocol, and the
        end of the packet; None if this is not a whole IP packet, or is a fragment, which no kernel
        offloads.
    """
    ethertype = data[OFFLOAD_MIN - 2] << 8 | data[OFFLOAD_MIN - 1]
    ethertype, network = payload_of(data, ethertype, OFFLOAD_MIN)
    if ethertype == ETHERTYPE_IPV4:
        return _ipv4(data, network)
    if ethertype == ETHERTYPE_IPV6:
        return _ipv6(data, network)
    return None


def _ipv4(data: Frame, at: int) -> tuple[int, int, int, int] | None:
    if at + IPV4_HEADER_MIN > len(data) or data[at] >> 4 != 4:
        return None
    transport = at + (data[at] & 0x0F) * 4
    is_fragment = data[at + 6] & 0x3F or data[at + 7]
    if transport < at + IPV4_HEADER_MIN or transport > len(data) or is_fragment:
        return None
    return at, transport, data[at + 9], at + (data[at + 2] << 8 | data[at + 3])


def _ipv6(data: Frame, at: int) -> tuple[int, int, int, int] | None:
    transport = at + IPV6_HEADER_SIZE
    if transport > len(data) or data[at] >> 4 != 6:
        return None
    protocol = data[at + 6]
    for _ in range(IPV6_EXTENSIONS_MAX):
        if protocol not in IPV6_OPTION_HEADERS or transport + 8 > len(data):
            break
        size = extension_size(protocol, data[transport + 1])
        protocol = data[transport]
        transport += size
    if transport > len(data) or protocol == FRAGMENT or protocol in IPV6_OPTION_HEADERS:
        return None
    return at, transport, protocol, at + IPV6_HEADER_SIZE + (data[at + 4] << 8 | data[at + 5])


def _payload(data: Frame, transport: int, protocol: int, gso_size: int) -> int | None:
    """Return the offset of the payload; None if the transport header or the GSO size is wrong."""
    if protocol == TCP:
        if transport + TCP_HEADER_MIN > len(data) or gso_size < TCP_SEGMENT_MIN:
            return None
        header = (data[transport + 12] >> 4) * 4
        payload = transport + header
        return payload if header >= TCP_HEADER_MIN and payload <= len(data) else None
    payload = transport + UDP_HEADER_SIZE
    if payload > len(data) or gso_size == 0:
        return None
    length = data[transport + 4] << 8 | data[transport + 5]
    fits = length == len(data) - transport and len(data) - payload <= gso_size * UDP_SEGMENTS_MAX
    return payload if fits else None
