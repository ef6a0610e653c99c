"""Segmentation and checksums in software: what an offload header asks for, done here.  Pure.

It is for receivers that take plain frames only.  The result is what the kernel makes for a network
card without offloads, byte for byte, as in tcp_gso_segment (net/ipv4/tcp_offload.c),
inet_gso_segment, ipv6_gso_segment, __udp_gso_segment and skb_checksum_help.

Theory.  The Internet checksum (RFC 1071) is a sum of 16-bit words modulo 65535, and 65536 is 1
modulo 65535.  So the sum of any bytes is the number they spell, modulo 65535.  The checksum field
holds the sum of the pseudo header with the length of the whole super-frame; each segment starts
from it, less the difference in length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from vknet.counters import DropReason
from vknet.packet.uniform_batch import (
    UNIFORM_FRAME_MAX,
    UNIFORM_MIN,
    UniformBatch,
    count_uniform,
)
from vknet.packet.virtio import (
    GSO_UDP,
    NEEDS_CSUM,
    NO_GSO,
    UDP_CHECK_OFFSET,
    VNET_HEADER,
    VNET_HEADER_SIZE,
    OffloadFrame,
    validate,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Sequence

    from vknet.packet.ethernet import Frame
    from vknet.packet.virtio import AnyFrame, Offsets

__all__ = [
    "batch_from_kernel",
    "finish_checksum",
    "for_receiver",
    "from_kernel",
    "plain_frames",
    "segment",
]

TCP_CHECK: Final = 16
TCP_FLAGS: Final = 13
FIN: Final = 0x01
PSH: Final = 0x08
CWR: Final = 0x80

# The first four bytes of UDP from a DHCP server or client to a DHCP server or client.
DHCP: Final = (67, 68)
DHCP_PORTS: Final = frozenset(
    bytes((0, source, 0, destination)) for source in DHCP for destination in DHCP
)

UDP_LENGTH: Final = 4

NO_KINDS: Final[frozenset[int]] = frozenset()


def from_kernel(raw: bytes) -> AnyFrame:
    """Turn what a TAP reads, offload header first, into a frame; plain if nothing is left to do.

    The checksum of DHCP is completed here, at the source: a client that reads from a raw socket
    sees the partial one otherwise, and old clients refuse it.
    """
    flags = raw[0]
    if flags != NEEDS_CSUM:
        if not flags & NEEDS_CSUM and raw[1] == NO_GSO:
            return raw[VNET_HEADER_SIZE:]
        # The other flags, such as "checksum is valid", are for this kernel alone.
        raw = bytes([flags & NEEDS_CSUM]) + raw[1:]
    if raw[8] == UDP_CHECK_OFFSET:
        transport = VNET_HEADER_SIZE + (raw[6] | raw[7] << 8)
        if raw[transport : transport + 4] in DHCP_PORTS and raw[1] == NO_GSO:
            frame = OffloadFrame(raw)
            return frame if isinstance(validate(raw), DropReason) else finish_checksum(frame)
    return OffloadFrame(raw)


def batch_from_kernel(raws: list[bytes]) -> Sequence[AnyFrame]:
    """Turn what a TAP reads into frames, in order; into a `UniformBatch` where they are alike."""
    if len(raws) >= UNIFORM_MIN and len(raws[0]) <= UNIFORM_FRAME_MAX:
        batch = _uniform_from_kernel(raws)
        if batch is not None:
            return batch
    return list(map(from_kernel, raws))


def _uniform_from_kernel(raws: list[bytes]) -> UniformBatch | None:
    first = raws[0]
    size, flags = len(first), first[0]
    # The last frame tells most batches that are not uniform.
    if first[:VNET_HEADER_SIZE] != raws[-1][:VNET_HEADER_SIZE] or set(map(len, raws)) != {size}:
        return None
    joined = b"".join(raws)
    if count_uniform(joined, size, range(VNET_HEADER_SIZE)) < len(raws):
        return None
    if not flags & NEEDS_CSUM and first[1] == NO_GSO:
        return UniformBatch([raw[VNET_HEADER_SIZE:] for raw in raws], offload=False)
    if flags != NEEDS_CSUM:
        return None
    if first[8] == UDP_CHECK_OFFSET:
        destination = VNET_HEADER_SIZE + (first[6] | first[7] << 8) + 3
        ports = joined[destination::size]
        if any(port in ports for port in DHCP):
            return None
    return UniformBatch(raws, offload=True)


def for_receiver(
    frames: Iterable[AnyFrame],
    kinds: frozenset[int],
    drops: Counter[DropReason],
    *,
    check_all: bool = False,
    mtu: int | None = None,
) -> list[AnyFrame]:
    """Cut what a receiver cannot take; plain frames and offload frames of its kinds pass.

    Args:
        frames: in order.
        kinds: the offload frames that the receiver takes, as `header_kinds` returns them.
        drops: counts the frames whose header does not fit them.
        check_all: validate the offload frames that pass, too: they come from a stranger.
        mtu: the limit for each segment in bytes, from the IP header on; None is no limit.
    """
    passed: list[AnyFrame] = []
    for frame in frames:
        if not isinstance(frame, OffloadFrame) or (not check_all and frame.kind in kinds):
            passed.append(frame)
        elif isinstance(offsets := validate(frame.data, mtu), DropReason):
            drops[offsets] += 1
        elif frame.kind in kinds:
            passed.append(frame)
        else:
            passed += segment(frame, offsets)
    return passed


def plain_frames(frames: Iterable[AnyFrame], drops: Counter[DropReason]) -> list[Frame]:
    """Do what `for_receiver` does, for a receiver of plain frames only."""
    return cast("list[Frame]", for_receiver(frames, NO_KINDS, drops))


def segment(frame: OffloadFrame, offsets: Offsets) -> list[bytes]:
    """Make the plain frames, at least one, that an offload frame stands for, in order.

    Args:
        frame: its header fits.
        offsets: as `validate` returned them.
    """
    data = frame.data
    if offsets.payload == 0:
        return [finish_checksum(frame)]
    if data[1] == GSO_UDP:
        return _cut_udp(data, offsets)
    return _cut_tcp(data, offsets)


def finish_checksum(frame: OffloadFrame) -> bytes:
    """Return the whole frame with its checksum computed; its header has to fit (`validate`)."""
    data = frame.data
    _, _, _, _, start, offset = VNET_HEADER.unpack_from(data)
    made = bytearray(memoryview(data)[VNET_HEADER_SIZE:])
    # A sum of 0 is sent as 65535: for UDP, 0 means no checksum.
    check = _fold(_sum(made[start:])) ^ 0xFFFF or 0xFFFF
    made[start + offset : start + offset + 2] = check.to_bytes(2, "big")
    return bytes(made)


def _cut_tcp(data: Frame, offsets: Offsets) -> list[bytes]:
    headers = bytearray(memoryview(data)[VNET_HEADER_SIZE : offsets.payload])
    network, transport = offsets.network - VNET_HEADER_SIZE, offsets.transport - VNET_HEADER_SIZE
    check_offset = transport + TCP_CHECK
    flags_at = transport + TCP_FLAGS
    seed = int.from_bytes(headers[check_offset : check_offset + 2], "big") - (
        len(data) - offsets.transport
    )
    sequence = int.from_bytes(headers[transport + 4 : transport + 8], "big")
    flags = headers[flags_at]
    # Only the last segment has FIN and PSH, only the first has CWR.
    last = flags & ~CWR
    others = flags & ~(FIN | PSH)
    segments = []
    for number, payload in enumerate(_pieces(data, offsets)):
        is_last = offsets.payload + (number + 1) * offsets.size >= len(data)
        headers[flags_at] = last if is_last else others
        headers[transport + 4 : transport + 8] = sequence.to_bytes(4, "big")
        length = len(headers) - transport + len(payload)
        headers[check_offset : check_offset + 2] = bytes(2)
        total = (seed + length) % 0xFFFF + _sum(headers[transport:]) + _sum(payload)
        headers[check_offset : check_offset + 2] = (_fold(total) ^ 0xFFFF).to_bytes(2, "big")
        _set_ip(headers, network, len(headers) - network + len(payload), number)
        segments.append(b"".join((headers, payload)))
        sequence = (sequence + offsets.size) & 0xFFFFFFFF
        others &= ~CWR
    return segments


def _cut_udp(data: Frame, offsets: Offsets) -> list[bytes]:
    headers = bytearray(memoryview(data)[VNET_HEADER_SIZE : offsets.payload])
    network, transport = offsets.network - VNET_HEADER_SIZE, offsets.transport - VNET_HEADER_SIZE
    check_offset = transport + UDP_CHECK_OFFSET
    seed = int.from_bytes(headers[check_offset : check_offset + 2], "big") - (
        len(data) - offsets.transport
    )
    segments = []
    for number, payload in enumerate(_pieces(data, offsets)):
        length = len(headers) - transport + len(payload)
        headers[transport + UDP_LENGTH : check_offset] = length.to_bytes(2, "big")
        headers[check_offset : check_offset + 2] = bytes(2)
        total = (seed + length) % 0xFFFF + _sum(headers[transport:]) + _sum(payload)
        headers[check_offset : check_offset + 2] = (_fold(total) ^ 0xFFFF or 0xFFFF).to_bytes(
            2, "big"
        )
        _set_ip(headers, network, len(headers) - network + len(payload), number)
        segments.append(b"".join((headers, payload)))
    return segments


def _pieces(data: Frame, offsets: Offsets) -> Iterable[memoryview]:
    view = memoryview(data)
    for at in range(offsets.payload, len(data), offsets.size):
        yield view[at : at + offsets.size]


def _set_ip(headers: bytearray, at: int, length: int, number: int) -> None:
    """Set the lengths in the IP header of one segment, and its IPv4 identification and checksum.

    Args:
        headers: changed in place.
        at: offset of the IP header, in bytes.
        length: of the packet, in bytes.
        number: of the segment, from 0; call this in order, since each identification is one more
            than the one before.
    """
    if headers[at] >> 4 == 6:
        headers[at + 4 : at + 6] = (length - 40).to_bytes(2, "big")
        return
    end = at + (headers[at] & 0x0F) * 4
    headers[at + 2 : at + 4] = length.to_bytes(2, "big")
    if number:
        identification = (headers[at + 4] << 8 | headers[at + 5]) + 1
        headers[at + 4 : at + 6] = (identification & 0xFFFF).to_bytes(2, "big")
    headers[at + 10 : at + 12] = bytes(2)
    headers[at + 10 : at + 12] = (_fold(_sum(headers[at:end])) ^ 0xFFFF).to_bytes(2, "big")


def _sum(data: Frame | bytearray) -> int:
    """Sum 16-bit words modulo 65535; the result is 0 only if all of them are."""
    number = int.from_bytes(data, "big")
    if len(data) % 2:
        number <<= 8
    return number % 0xFFFF or (0xFFFF if number else 0)


def _fold(total: int) -> int:
    """Fold a sum into sixteen bits; the result is 0 only if the sum is."""
    return total % 0xFFFF or (0xFFFF if total else 0)
