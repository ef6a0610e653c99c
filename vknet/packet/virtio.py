"""What the kernel leaves undone in a frame, and the header that says so.  Pure.

Theory.  A kernel with a network card that can do it for it neither sums up a segment nor cuts a
stream into segments: it hands over up to 64 KB at a time with one set of headers, a *super-frame*,
and a checksum field that holds the sum of the pseudo header only.  A TAP can play that card.  What
is left to be done then stands before each frame in ten bytes, `struct virtio_net_hdr`
(linux/virtio_net.h; VIRTIO 1.2, section 5.1.6), here always little-endian:

    u8 flags    u8 gso_type    u16 hdr_len    u16 gso_size    u16 csum_start    u16 csum_offset

    flags         1: a checksum is wanted, from csum_start to the end of the frame; it goes to
                  csum_offset bytes behind csum_start
    gso_type      0: no segments; 1: TCP over IPv4; 4: TCP over IPv6; 5: UDP; with 0x80 beside 1
                  or 4: the first segment alone keeps CWR
    hdr_len       a hint how much of the frame is headers
    gso_size      payload bytes of each segment but the last

All positions count from the frame's first byte.  The payload of an OFFLOAD block is this header and
the frame, and so is what such a TAP gives and takes: an `OffloadFrame` is carried as it came.

The header of a peer is a stranger's.  `validate` holds it against the frame it comes with, so that
what passes asks nothing of the kernel that a plain kernel would not ask of its card.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from vknet.packet.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, TAG_SIZE, TAGS, TAGS_MAX
from vknet.packet.ethernet import HEADER_SIZE as ETHERNET_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vknet.framing import Frame

__all__ = [
    "CSUM",
    "DEFAULT_OFFLOADS",
    "FAST_PATH_OFFSETS",
    "HEADER_SIZE",
    "NOTHING",
    "OFFLOADS",
    "OFFLOAD_MIN",
    "TSO4",
    "TSO6",
    "TSO_ECN",
    "USO",
    "AnyFrame",
    "Misfit",
    "OffloadFrame",
    "Offsets",
    "kinds",
    "usable",
    "validate",
]

HEADER: Final = struct.Struct("<BBHHHH")
HEADER_SIZE: Final = HEADER.size
NOTHING: Final = bytes(HEADER_SIZE)
"""The header of a frame with which nothing is left to be done: a plain frame."""

OFFLOAD_MIN: Final = HEADER_SIZE + ETHERNET_SIZE
"""The least an offload header and its frame can have together, in bytes."""

# The names in a HELLO; as in linux/if_tun.h (TUN_F_*), but that USO is one there and two here.
CSUM: Final = "csum"
TSO4: Final = "tso4"
TSO6: Final = "tso6"
TSO_ECN: Final = "tso_ecn"
USO: Final = "uso"

OFFLOADS: Final = (CSUM, TSO4, TSO6, TSO_ECN, USO)
"""Every offload there is a name for, in the order in which a HELLO lists them."""

DEFAULT_OFFLOADS: Final = frozenset((CSUM, TSO4, TSO6, TSO_ECN))
"""What is used unless asked otherwise.  USO is not: some kernels (6.17, 7.0) mangle it."""

NEEDS_CSUM: Final = 1
NO_GSO: Final = 0
GSO_TCPV4: Final = 1
GSO_TCPV6: Final = 4
GSO_UDP: Final = 5
GSO_ECN: Final = 0x80

# linux/tcp.h: TCP_MIN_GSO_SIZE.  A frame of 64 KB in segments of one byte would be a weapon.
TCP_SEGMENT_MIN: Final = 8
# Bytes from a frame's start: further in, with what a kernel has before a frame, a checksum's start
# no longer fits its sixteen bits (linux/skbuff.h: csum_start), and the kernel refuses the frame.
CSUM_START_MAX: Final = 0xF000
# linux/udp.h: UDP_MAX_SEGMENTS.
UDP_SEGMENTS_MAX: Final = 128

TCP: Final = 6
UDP: Final = 17
# Where their checksum stands, in bytes from their start.
CHECK_AT_UDP: Final = 6
CHECK_AT: Final = {TCP: 16, UDP: CHECK_AT_UDP}
TCP_HEADER_MIN: Final = 20
UDP_HEADER: Final = 8
IPV4_HEADER_MIN: Final = 20
IPV6_HEADER: Final = 40

# IPv6 headers that may stand before TCP or UDP and have their length in their second byte: hop by
# hop, routing, destination options.  More than a few of them are nobody's honest packet.
IPV6_EXTENSIONS: Final = frozenset((0, 43, 60))
IPV6_EXTENSIONS_MAX: Final = 8
IPV6_FRAGMENT: Final = 44


class OffloadFrame:
    """A frame with something left to be done, and the header that says what.

    Attributes:
        data: the header and the frame; at least `OFFLOAD_MIN` bytes.  Nothing else about it has
            been checked.

    Its `len` is that of the frame alone.
    """

    __slots__ = ("data",)

    def __init__(self, data: Frame) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data) - HEADER_SIZE

    def __repr__(self) -> str:
        return f"OffloadFrame({bytes(self.data)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OffloadFrame) and self.data == other.data

    __hash__ = None  # type: ignore[assignment]  # its data may be a view of what changes

    @property
    def frame(self) -> memoryview:
        """The frame alone, as a view."""
        return memoryview(self.data)[HEADER_SIZE:]

    def with_frame(self, frame: bytes) -> OffloadFrame:
        """Make the same, with another frame of the same length and checksum."""
        return OffloadFrame(bytes(self.data[:HEADER_SIZE]) + frame)

    @property
    def is_super(self) -> bool:
        """Whether it says that it is to be cut into segments."""
        return self.data[1] != NO_GSO

    @property
    def kind(self) -> int:
        """What is left to be done, as one of the numbers that `kinds` gives."""
        return self.data[0] | self.data[1] << 8


AnyFrame: TypeAlias = "Frame | OffloadFrame"
"""A frame as it may come from an endpoint with offloads, and go to one."""


class Misfit:
    """The reasons `validate` gives; keys of the drop counters."""

    UNKNOWN: Final = "an offload that is not known here"
    HEADER: Final = "an offload header that does not fit its frame"
    OVER_MTU: Final = "segments over the endpoint's MTU"


class Offsets(NamedTuple):
    """Where things are in the data of an offload frame, its header included, in bytes."""

    network: int
    """The IP header."""
    transport: int
    """The TCP or UDP header; without segmentation, what the outermost IP header announces."""
    payload: int
    """What is to be cut; 0 where nothing is, or where it makes one segment only."""
    size: int
    """Bytes of payload in each segment but the last."""


def usable(names: Iterable[str]) -> frozenset[str]:
    """Which of these offloads can be had together.

    All others rest on the checksum, and ECN rests on TCP segmentation, as in the kernel
    (drivers/net/tun.c, set_offload).  Names that are not known are left out.
    """
    known = frozenset(names).intersection(OFFLOADS)
    if CSUM not in known:
        return frozenset()
    return known if known & {TSO4, TSO6} else known - {TSO_ECN}


def kinds(names: Iterable[str]) -> frozenset[int]:
    """The kinds of frames, as `OffloadFrame.kind` tells them, that these offloads allow."""
    names = usable(names)
    types = {NO_GSO} if names else set()
    for name, gso_type in ((TSO4, GSO_TCPV4), (TSO6, GSO_TCPV6), (USO, GSO_UDP)):
        if name in names:
            types.add(gso_type)
            if TSO_ECN in names and name != USO:
                types.add(gso_type | GSO_ECN)
    return frozenset(NEEDS_CSUM | gso_type << 8 for gso_type in types)


KNOWN_KINDS: Final = kinds(OFFLOADS)


# What most frames are: TCP or UDP right behind a plain header of IPv4, and only the sum is wanted.
# The offload header, Ethernet's type with IP's first byte, fragment, protocol; and by these the
# least that such a frame has in bytes.
FAST_PATH: Final = struct.Struct("!10s12x3s5xHxB")
FAST_PATH_IPV4: Final = b"\x08\x00\x45"
DONT_FRAGMENT: Final = 0x4000
FAST_PATH_NETWORK: Final = OFFLOAD_MIN
FAST_PATH_TRANSPORT: Final = OFFLOAD_MIN + IPV4_HEADER_MIN
NOT_FAST_PATH: Final = 1 << 32
FAST_PATH_MIN_SIZE: Final = {
    (
        HEADER.pack(NEEDS_CSUM, NO_GSO, 0, 0, FAST_PATH_TRANSPORT - HEADER_SIZE, check_at),
        FAST_PATH_IPV4,
        fragment,
        protocol,
    ): FAST_PATH_TRANSPORT + check_at + 2
    for protocol, check_at in CHECK_AT.items()
    for fragment in (0, DONT_FRAGMENT)
}
FAST_PATH_OFFSETS: Final = Offsets(FAST_PATH_NETWORK, FAST_PATH_TRANSPORT, 0, 0)
"""Of each of these frames `validate` gives this very object: its caller may ask by identity."""


def validate(data: Frame, mtu: int | None = None) -> Offsets | str:
    """Hold an offload header against its frame.

    Args:
        data: of an `OffloadFrame`.
        mtu: what the segments have to keep to, in bytes from the IP header on; None is anything.

    Returns:
        Where things are; or, where the two do not fit, why (`Misfit`).
    """
    size = len(data)
    if size >= FAST_PATH.size and size >= FAST_PATH_MIN_SIZE.get(
        FAST_PATH.unpack_from(data), NOT_FAST_PATH
    ):
        return FAST_PATH_OFFSETS
    return _validate(data, mtu)


def _validate(data: Frame, mtu: int | None) -> Offsets | str:
    """As `validate`, whatever the frame is."""
    flags, gso_type, hdr_len, gso_size, csum_start, csum_offset = HEADER.unpack_from(data)
    if flags | gso_type << 8 not in KNOWN_KINDS:
        return Misfit.UNKNOWN
    found = _headers(data)
    if found is None or hdr_len > len(data) - HEADER_SIZE:
        return Misfit.HEADER
    network, transport, protocol, end = found
    start = HEADER_SIZE + csum_start
    if start + csum_offset + 2 > len(data) or csum_start > CSUM_START_MAX:
        return Misfit.HEADER
    check_at = CHECK_AT.get(protocol)
    if gso_type == NO_GSO:
        # Behind the outermost transport header there may be a tunnel whose inner sum is meant.
        fits = start > transport or (start == transport and check_at in (None, csum_offset))
        return Offsets(network, transport, 0, 0) if fits else Misfit.HEADER
    version, wanted = GSO_PACKETS[gso_type & ~GSO_ECN]
    if (
        start != transport
        or csum_offset != check_at
        or protocol != wanted
        or end != len(data)
        or (version is not None and data[network] >> 4 != version)
    ):
        return Misfit.HEADER
    payload = _payload(data, transport, protocol, gso_size)
    if payload is None:
        return Misfit.HEADER
    longest = payload - network + min(gso_size, len(data) - payload)
    if mtu is not None and longest > mtu:
        return Misfit.OVER_MTU
    if len(data) - payload <= gso_size:
        return Offsets(network, transport, 0, 0)
    return Offsets(network, transport, payload, gso_size)


# What is cut into segments: its version of IP, if it has to have one, and its protocol.
GSO_PACKETS: Final[dict[int, tuple[int | None, int]]] = {
    GSO_TCPV4: (4, TCP),
    GSO_TCPV6: (6, TCP),
    GSO_UDP: (None, UDP),
}


def _headers(data: Frame) -> tuple[int, int, int, int] | None:
    """The IP header's place, the transport header's, its protocol, and the end of the packet.

    None where this is no whole IP packet, or a fragment: nobody leaves a fragment undone.
    """
    at = OFFLOAD_MIN
    ethertype = data[at - 2] << 8 | data[at - 1]
    last_tag = at + TAGS_MAX * TAG_SIZE
    while ethertype in TAGS and at < last_tag and at + TAG_SIZE <= len(data):
        at += TAG_SIZE
        ethertype = data[at - 2] << 8 | data[at - 1]
    if ethertype == ETHERTYPE_IPV4:
        return _ipv4(data, at)
    if ethertype == ETHERTYPE_IPV6:
        return _ipv6(data, at)
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
    transport = at + IPV6_HEADER
    if transport > len(data) or data[at] >> 4 != 6:
        return None
    protocol = data[at + 6]
    for _ in range(IPV6_EXTENSIONS_MAX):
        if protocol not in IPV6_EXTENSIONS or transport + 8 > len(data):
            break
        protocol = data[transport]
        transport += (data[transport + 1] + 1) * 8
    if transport > len(data) or protocol == IPV6_FRAGMENT or protocol in IPV6_EXTENSIONS:
        return None
    return at, transport, protocol, at + IPV6_HEADER + (data[at + 4] << 8 | data[at + 5])


def _payload(data: Frame, transport: int, protocol: int, gso_size: int) -> int | None:
    """Where the payload begins that is to be cut; None where it cannot be."""
    if protocol == TCP:
        if transport + TCP_HEADER_MIN > len(data) or gso_size < TCP_SEGMENT_MIN:
            return None
        header = (data[transport + 12] >> 4) * 4
        payload = transport + header
        return payload if header >= TCP_HEADER_MIN and payload <= len(data) else None
    payload = transport + UDP_HEADER
    if payload > len(data) or gso_size == 0:
        return None
    length = data[transport + 4] << 8 | data[transport + 5]
    fits = length == len(data) - transport and len(data) - payload <= gso_size * UDP_SEGMENTS_MAX
    return payload if fits else None
