"""What an offload header leaves to be done, done here: segments, checksums.  Pure.

For frames that meet somebody who takes plain ones only.  It is what the kernel would do for a card
that can do nothing, byte for byte, as in tcp_gso_segment (net/ipv4/tcp_offload.c),
inet_gso_segment, ipv6_gso_segment, __udp_gso_segment and skb_checksum_help.

Theory.  The Internet checksum (RFC 1071) is a sum modulo 65535 of 16-bit words, and 65536 is 1
modulo 65535: so the sum of any bytes is the number that they spell, modulo 65535.  The field that
the sum goes to holds the sum of the pseudo header, with the length of the whole super-frame in it;
each segment begins with that, less the difference in length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vknet.packet.uniform_batch import UNIFORM_FRAME_MAX, UNIFORM_MIN, UniformBatch, count_uniform
from vknet.packet.virtio import (
    CHECK_AT_UDP,
    GSO_UDP,
    HEADER,
    HEADER_SIZE,
    NEEDS_CSUM,
    NO_GSO,
    OffloadFrame,
    validate,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Sequence

    from vknet.framing import Frame
    from vknet.packet.virtio import AnyFrame, Offsets

__all__ = ["batch_from_kernel", "finish_checksum", "from_kernel", "plain_frames", "segment"]

TCP_CHECK: Final = 16
TCP_FLAGS: Final = 13
FIN: Final = 0x01
PSH: Final = 0x08
CWR: Final = 0x80

# UDP's first four bytes, from a server or a client of DHCP, to one.
DHCP: Final = (67, 68)
DHCP_PORTS: Final = frozenset(
    bytes((0, source, 0, destination)) for source in DHCP for destination in DHCP
)

UDP_LENGTH: Final = 4
UDP_CHECK: Final = 6


def from_kernel(raw: bytes) -> AnyFrame:
    """What a TAP hands over, header first: a plain frame if there is nothing left to be done.

    DHCP's checksums are put in here, where the frame comes from: a client that reads from a raw
    socket sees them unfinished otherwise, and those of old refuse that.
    """
    flags = raw[0]
    if flags != NEEDS_CSUM:
        if not flags & NEEDS_CSUM and raw[1] == NO_GSO:
            return raw[HEADER_SIZE:]
        # That a sum was found good, or how it came about, is this kernel's own affair.
        raw = bytes([flags & NEEDS_CSUM]) + raw[1:]
    if raw[8] == CHECK_AT_UDP:
        transport = HEADER_SIZE + (raw[6] | raw[7] << 8)
        if raw[transport : transport + 4] in DHCP_PORTS and raw[1] == NO_GSO:
            frame = OffloadFrame(raw)
            return frame if isinstance(validate(raw), str) else finish_checksum(frame)
    return OffloadFrame(raw)


def batch_from_kernel(raws: list[bytes]) -> Sequence[AnyFrame]:
    """What a TAP hands over, in order: `from_kernel` of each; a train where they are alike."""
    if len(raws) >= UNIFORM_MIN and len(raws[0]) <= UNIFORM_FRAME_MAX:
        train = _uniform_from_kernel(raws)
        if train is not None:
            return train
    return list(map(from_kernel, raws))


def _uniform_from_kernel(raws: list[bytes]) -> UniformBatch | None:
    first = raws[0]
    size, flags = len(first), first[0]
    # Most batches that are none are known by their last frame.
    if first[:HEADER_SIZE] != raws[-1][:HEADER_SIZE] or set(map(len, raws)) != {size}:
        return None
    joined = b"".join(raws)
    if count_uniform(joined, size, range(HEADER_SIZE)) < len(raws):
        return None
    if not flags & NEEDS_CSUM and first[1] == NO_GSO:
        return UniformBatch([raw[HEADER_SIZE:] for raw in raws], offload=False)
    if flags != NEEDS_CSUM:
        return None
    if first[8] == CHECK_AT_UDP:
        destination = HEADER_SIZE + (first[6] | first[7] << 8) + 3
        ports = joined[destination::size]
        if any(port in ports for port in DHCP):
            return None
    return UniformBatch(raws, offload=True)


def plain_frames(frames: Iterable[AnyFrame], drops: Counter[str]) -> list[Frame]:
    """The same batch for somebody who takes plain frames only.

    Args:
        frames: in order.
        drops: counts those with a header that does not fit them, by reason.
    """
    plain: list[Frame] = []
    for frame in frames:
        if not isinstance(frame, OffloadFrame):
            plain.append(frame)
            continue
        offsets = validate(frame.data)
        if isinstance(offsets, str):
            drops[offsets] += 1
        else:
            plain += segment(frame, offsets)
    return plain


def segment(frame: OffloadFrame, offsets: Offsets) -> list[bytes]:
    """The plain frames that one offload frame stands for, in order: at least one.

    Args:
        frame: its header fits.
        offsets: as `validate` found them.
    """
    data = frame.data
    if offsets.payload == 0:
        return [finish_checksum(frame)]
    if data[1] == GSO_UDP:
        return _cut_udp(data, offsets)
    return _cut_tcp(data, offsets)


def finish_checksum(frame: OffloadFrame) -> bytes:
    """The frame in one piece, with its checksum put in; the header has to fit (`validate`)."""
    data = frame.data
    _, _, _, _, start, offset = HEADER.unpack_from(data)
    made = bytearray(memoryview(data)[HEADER_SIZE:])
    # A sum of 0 is sent as 65535, its other form: for UDP, 0 is no checksum at all.
    check = _fold(_sum(made[start:])) ^ 0xFFFF or 0xFFFF
    made[start + offset : start + offset + 2] = check.to_bytes(2, "big")
    return bytes(made)


def _cut_tcp(data: Frame, offsets: Offsets) -> list[bytes]:
    headers = bytearray(memoryview(data)[HEADER_SIZE : offsets.payload])
    network, transport = offsets.network - HEADER_SIZE, offsets.transport - HEADER_SIZE
    check_at = transport + TCP_CHECK
    flags_at = transport + TCP_FLAGS
    seed = int.from_bytes(headers[check_at : check_at + 2], "big") - (len(data) - offsets.transport)
    sequence = int.from_bytes(headers[transport + 4 : transport + 8], "big")
    flags = headers[flags_at]
    # FIN and PSH are the last segment's, CWR is the first one's.
    last = flags & ~CWR
    others = flags & ~(FIN | PSH)
    segments = []
    for number, payload in enumerate(_pieces(data, offsets)):
        is_last = offsets.payload + (number + 1) * offsets.size >= len(data)
        headers[flags_at] = last if is_last else others
        headers[transport + 4 : transport + 8] = sequence.to_bytes(4, "big")
        length = len(headers) - transport + len(payload)
        headers[check_at : check_at + 2] = bytes(2)
        total = (seed + length) % 0xFFFF + _sum(headers[transport:]) + _sum(payload)
        headers[check_at : check_at + 2] = (_fold(total) ^ 0xFFFF).to_bytes(2, "big")
        _set_ip(headers, network, len(headers) - network + len(payload), number)
        segments.append(b"".join((headers, payload)))
        sequence = (sequence + offsets.size) & 0xFFFFFFFF
        others &= ~CWR
    return segments


def _cut_udp(data: Frame, offsets: Offsets) -> list[bytes]:
    headers = bytearray(memoryview(data)[HEADER_SIZE : offsets.payload])
    network, transport = offsets.network - HEADER_SIZE, offsets.transport - HEADER_SIZE
    check_at = transport + UDP_CHECK
    seed = int.from_bytes(headers[check_at : check_at + 2], "big") - (len(data) - offsets.transport)
    segments = []
    for number, payload in enumerate(_pieces(data, offsets)):
        length = len(headers) - transport + len(payload)
        headers[transport + UDP_LENGTH : check_at] = length.to_bytes(2, "big")
        headers[check_at : check_at + 2] = bytes(2)
        total = (seed + length) % 0xFFFF + _sum(headers[transport:]) + _sum(payload)
        headers[check_at : check_at + 2] = (_fold(total) ^ 0xFFFF or 0xFFFF).to_bytes(2, "big")
        _set_ip(headers, network, len(headers) - network + len(payload), number)
        segments.append(b"".join((headers, payload)))
    return segments


def _pieces(data: Frame, offsets: Offsets) -> Iterable[memoryview]:
    view = memoryview(data)
    for at in range(offsets.payload, len(data), offsets.size):
        yield view[at : at + offsets.size]


def _set_ip(headers: bytearray, at: int, length: int, number: int) -> None:
    """Set the lengths in the IP header for a packet of so many bytes, the n-th of its super-frame.

    An IPv4 identification counts up from the one of the super-frame: call this in order.
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
    """A number that is the sum of the 16-bit words modulo 65535, and 0 only if all of them are."""
    number = int.from_bytes(data, "big")
    if len(data) % 2:
        number <<= 8
    return number % 0xFFFF or (0xFFFF if number else 0)


def _fold(total: int) -> int:
    """A sum in sixteen bits, 0 only if nothing was summed up but zeros."""
    return total % 0xFFFF or (0xFFFF if total else 0)
