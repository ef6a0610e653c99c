"""Offload headers and segmentation: what is accepted is cut into valid packets of the payload.

The input is a byte that chooses the MTU and the receiver, and then what a peer or a TAP hands over:
an offload header and a frame.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.support.packets import TCP, UDP
from tests.support.superframes import Super, parts
from vknet.packet.gso import batch_from_kernel, for_receiver, from_kernel, segment
from vknet.packet.uniform_batch import UniformBatch
from vknet.packet.virtio import ALL_OFFLOADS, Offload, OffloadFrame, Offsets, header_kinds, validate

if TYPE_CHECKING:
    from vknet.counters import DropReason
    from vknet.packet.virtio import AnyFrame

MAX_SIZE: Final = 1600
WORDS: Final = (
    *(bytes([flags, kind]) for flags in (0, 1, 2) for kind in (0, 1, 4, 5, 0x81, 0x84)),
    *(b"\x08\x00\x45", b"\x86\xdd\x60", b"\x81\x00", b"\x88\xa8", b"\x00\x43\x00\x44"),
    *(bytes([protocol]) for protocol in (0, 6, 17, 43, 44, 51, 58, 60)),
)

MTUS: Final = (None, 1500, 576, 100)
OFFLOADS: Final = (Offload(0), Offload.CSUM, Offload.CSUM | Offload.TSO4, ALL_OFFLOADS)
KINDS: Final = tuple(map(header_kinds, OFFLOADS))
ETHERNET_MAX: Final = 14 + 4 * 4
SEGMENT_HEADERS_MAX: Final = 700
UNIFORM: Final = 16
UNIFORM_MAX_SIZE: Final = 200


def seeds() -> dict[str, bytes]:
    supers = {
        "tcp4": Super(b"abc" * 90, 100),
        "tcp6": Super(b"abc" * 90, 100, version=6),
        "udp4": Super(b"abc" * 90, 100, protocol=UDP),
        "udp6": Super(b"abc" * 90, 100, version=6, protocol=UDP),
        "checksum of tcp4": Super(b"abc", 0),
        "checksum of udp6": Super(b"abc", 0, version=6, protocol=UDP),
        "vlans": Super(b"abc" * 90, 100, tags=bytes.fromhex("88a8000581000007")),
        "options": Super(b"abc" * 90, 100, options=bytes(12), ip_options=b"\1" * 8),
        "extensions": Super(
            b"abc" * 90, 100, version=6, extensions=bytes([60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4])
            + bytes(4),
        ),
        "one segment": Super(b"abc", 100),
        "cwr": Super(b"abc" * 90, 100, flags=0x99, ecn=True),
        "smallest segments": Super(b"x" * 99, 8),
        "sequence wraps": Super(b"x" * 900, 400, sequence=2**32 - 1, identification=0xFFFF),
    }  # fmt: skip
    made = {name: bytes(one.frame().data) for name, one in supers.items()}
    dhcp = bytearray(made["checksum of udp6"])
    dhcp[-11:-7] = b"\0\x43\0\x44"
    return {
        **{name: bytes([4 * number]) + data for number, (name, data) in enumerate(made.items())},
        "alike": b"\x10" + made["checksum of tcp4"],
        "dhcp alike": b"\x10" + bytes(dhcp),
        "mtu": b"\2" + made["tcp4"],
        "plain": b"\0" + bytes(10) + made["checksum of tcp4"][10:],
        "other flags": b"\0\2" + made["checksum of tcp4"][1:],
        "dhcp": b"\0" + bytes(dhcp),
        "short": b"\0" + bytes(24),
    }


def run(data: bytes) -> None:
    if len(data) < 25:
        return
    head = data[0]
    mtu, kinds = MTUS[head & 3], KINDS[head >> 2 & 3]
    data = data[1:]
    offsets = validate(data, mtu)
    assert validate(memoryview(data), mtu) == offsets
    if isinstance(offsets, Offsets):
        check_segments(data, offsets, mtu)
    check_receivers(data, mtu, offsets, kinds)
    check_kernel(data, alike=bool(head & 16))


def check_segments(data: bytes, offsets: Offsets, mtu: int | None) -> None:
    start, offset = (int.from_bytes(data[at : at + 2], "little") for at in (6, 8))
    assert 10 + start + offset + 2 <= len(data), "a checksum behind the frame"
    frame = bytearray(data[10:])
    is_super = data[1] != 0
    if is_super:
        set_partial_checksum(frame, start, offset)
    cut = segment(OffloadFrame(data[:10] + bytes(frame)), offsets)
    assert cut
    if not is_super:
        check_sum_of_rest(cut, bytes(frame), start, offset)
        return
    size = int.from_bytes(data[4:6], "little")
    payload = b"".join(parts(piece).payload for piece in cut)
    header = 8 if data[1] == 5 else (frame[start + 12] >> 4) * 4
    assert payload == frame[start + header :], "not the payload"
    assert len(cut) == max(1, -(-len(payload) // size)), "not the number of segments"
    for number, piece in enumerate(cut):
        packet = parts(piece)
        assert len(packet.payload) <= size
        assert mtu is None or len(packet.ip) + len(packet.transport) <= mtu
        assert len(piece) <= ETHERNET_MAX + SEGMENT_HEADERS_MAX + size
        assert len(packet.ip) + len(packet.transport) + network_of(piece) == len(piece)
        assert checksums_hold(piece, is_cut=len(cut) > 1), "a wrong checksum"
        if packet.protocol == TCP:
            first = int.from_bytes(frame[start + 4 : start + 8], "big")
            sequence = int.from_bytes(packet.transport[4:8], "big")
            assert sequence == (first + number * size) % 2**32
            flags, flag = frame[start + 13], packet.transport[13]
            last = number == len(cut) - 1
            assert flag & ~0x89 == flags & ~0x89
            assert flag & 0x09 == (flags & 0x09 if last else 0)
            assert flag & 0x80 == (flags & 0x80 if number == 0 else 0)


def check_sum_of_rest(cut: list[bytes], frame: bytes, start: int, offset: int) -> None:
    """Assert that one frame is made, with the sum from `start` on in the field and nowhere else."""
    (made,) = cut
    at = start + offset
    assert made[:at] + made[at + 2 :] == frame[:at] + frame[at + 2 :]
    # The field was part of the sum; with the new value in its place the sum differs by both.
    old, new = (int.from_bytes(one[at : at + 2], "big") for one in (frame, made))
    shift = 8 if offset % 2 else 0
    total = words_sum(frame[start:])
    assert new != 0
    assert (new + total) % 0xFFFF == 0
    assert (words_sum(made[start:]) - total - ((new - old) << shift)) % 0xFFFF == 0


def words_sum(data: bytes) -> int:
    """Return the sum of the 16-bit words, modulo 65535."""
    return int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF


def network_of(frame: bytes) -> int:
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    return at + 2


def set_partial_checksum(frame: bytearray, start: int, offset: int) -> None:
    """Put the sum of the pseudo header into the checksum field, as a kernel does."""
    packet = parts(bytes(frame))
    addresses = packet.ip[12:20] if packet.version == 4 else packet.ip[8:40]
    length = len(frame) - start
    total = words_sum(addresses + length.to_bytes(4, "big") + bytes([0, 0, 0, packet.protocol]))
    frame[start + offset : start + offset + 2] = total.to_bytes(2, "big")


def checksums_hold(frame: bytes, *, is_cut: bool) -> bool:
    """Whether the checksums of a plain frame are valid; that of IPv4 if segmentation set it."""
    packet = parts(frame)
    addresses = packet.ip[12:20] if packet.version == 4 else packet.ip[8:40]
    pseudo = len(packet.transport).to_bytes(4, "big") + bytes([0, 0, 0, packet.protocol])
    if words_sum(addresses + pseudo + packet.transport) != 0:
        return False
    return packet.version == 6 or not is_cut or words_sum(packet.ip) == 0


def check_receivers(
    data: bytes, mtu: int | None, offsets: Offsets | DropReason, kinds: frozenset[int]
) -> None:
    """Assert that a receiver gets plain frames and frames of its kinds, or a drop is counted."""
    drops: Counter[DropReason] = Counter()
    passed = for_receiver([OffloadFrame(data)], kinds, drops, check_all=True, mtu=mtu)
    assert bool(passed) is isinstance(offsets, Offsets)
    assert drops == ({} if passed else {offsets: 1})
    for one in passed:
        assert not isinstance(one, OffloadFrame) or one.kind in kinds


def check_kernel(data: bytes, *, alike: bool) -> None:
    """Assert that what a TAP hands over is a frame of its size, alone or among frames like it."""
    made = from_kernel(data)
    assert len(made) == len(data) - 10
    assert not isinstance(made, OffloadFrame) or made.data[0] in (0, 1)
    if not alike or len(data) > UNIFORM_MAX_SIZE:
        return
    raws = [data[:-1] + bytes([number]) for number in range(UNIFORM)]
    batch: list[AnyFrame] = [*batch_from_kernel(raws)]
    assert batch == [*map(from_kernel, raws)]
    offsets = UniformBatch(raws, offload=True).offsets()
    assert offsets is None or all(validate(raw) == offsets for raw in raws)
