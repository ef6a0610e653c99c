"""The offload header: which frames are valid, and segmentation and checksums in software.

That segments are the kernel's own, byte for byte, is seen in tests/hosts/test_offload.py.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.packets import TCP, UDP
from tests.support.superframes import Super, checksums_hold, parts
from vknet.counters import DropReason
from vknet.packet.gso import from_kernel, plain_frames, segment
from vknet.packet.virtio import (
    ALL_OFFLOADS,
    DEFAULT_OFFLOADS,
    NO_OFFLOADS,
    Offload,
    OffloadFrame,
    Offsets,
    header_kinds,
    validate,
)

if TYPE_CHECKING:
    from vknet.packet.virtio import AnyFrame

TAG = bytes.fromhex("8100 6005")
BIG = bytes(range(256)) * 200


def segments(frame: Super) -> list[bytes]:
    made = frame.frame()
    offsets = validate(made.data)
    assert isinstance(offsets, Offsets)
    return segment(made, offsets)


def patched(frame: OffloadFrame, at: int, new: bytes) -> bytes:
    """An offload frame's data with these bytes put in, `at` bytes into the frame."""
    data = bytes(frame.data)
    return data[: 10 + at] + new + data[10 + at + len(new) :]


# --- names and kinds ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "usable"),
    [
        (ALL_OFFLOADS.names, ALL_OFFLOADS),
        (["csum", "tso4", "later"], Offload.CSUM | Offload.TSO4),
        (["tso4", "tso6", "uso"], NO_OFFLOADS),
        (["csum", "tso_ecn"], Offload.CSUM),
        (["csum", "tso6", "tso_ecn"], Offload.CSUM | Offload.TSO6 | Offload.TSO_ECN),
        (["csum", "uso", "tso_ecn"], Offload.CSUM | Offload.USO),
        ([], NO_OFFLOADS),
    ],
)
def test_offload_is_usable_only_with_those_it_needs(names: list[str], usable: Offload) -> None:
    assert Offload.from_names(names).usable == usable


def test_offload_names_keep_the_order_of_a_hello_and_are_parsed_back() -> None:
    assert ALL_OFFLOADS.names == ["csum", "tso4", "tso6", "tso_ecn", "uso"]
    assert (Offload.USO | Offload.CSUM).names == ["csum", "uso"]
    assert NO_OFFLOADS.names == []
    for offload in (*Offload, DEFAULT_OFFLOADS, ALL_OFFLOADS, NO_OFFLOADS):
        assert Offload.from_names(offload.names) == offload


def test_offload_from_an_unknown_name_is_none() -> None:
    assert Offload.from_names(["later", "CSUM", ""]) == NO_OFFLOADS
    assert Offload.from_names(["tso4", "later", "tso4"]) == Offload.TSO4


def test_default_offloads_are_all_but_uso() -> None:
    assert DEFAULT_OFFLOADS | Offload.USO == ALL_OFFLOADS
    assert Offload.USO not in DEFAULT_OFFLOADS


@pytest.mark.parametrize(
    ("frame", "offload"),
    [
        (Super(size=0), Offload.CSUM),
        (Super(), Offload.TSO4),
        (Super(version=6), Offload.TSO6),
        (Super(ecn=True), Offload.TSO_ECN),
        (Super(protocol=UDP), Offload.USO),
    ],
)
def test_header_kind_is_allowed_only_with_its_offload(frame: Super, offload: Offload) -> None:
    assert frame.frame().kind in header_kinds(ALL_OFFLOADS)
    assert frame.frame().kind not in header_kinds(ALL_OFFLOADS & ~offload)


def test_without_offloads_no_header_kind_is_allowed() -> None:
    assert header_kinds(NO_OFFLOADS) == frozenset()
    assert header_kinds(ALL_OFFLOADS & ~Offload.CSUM) == frozenset()


def test_udp_segmentation_is_off_by_default() -> None:
    assert Super(protocol=UDP).frame().kind not in header_kinds(DEFAULT_OFFLOADS)


# --- validation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        Super(),
        Super(version=6),
        Super(ecn=True),
        Super(tags=TAG),
        Super(tags=TAG * 4),
        Super(options=bytes(40)),
        Super(ip_options=b"\1" * 40),
        Super(version=6, extensions=bytes([60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0])),
        Super(protocol=UDP, payload=bytes(128 * 500), size=500),
        Super(hdr_len=0),
        Super(hdr_len=4054),
        Super(size=8),
    ],
)
def test_valid_super_frame_is_accepted(frame: Super) -> None:
    assert isinstance(validate(frame.frame().data), Offsets)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (Super().but(flags=0), DropReason.UNKNOWN_OFFLOAD),
        (Super().but(flags=3), DropReason.UNKNOWN_OFFLOAD),
        (Super().but(flags=0x81), DropReason.UNKNOWN_OFFLOAD),
        (Super().but(gso_type=2), DropReason.UNKNOWN_OFFLOAD),
        (Super().but(gso_type=3), DropReason.UNKNOWN_OFFLOAD),
        (Super().but(gso_type=0x80), DropReason.UNKNOWN_OFFLOAD),
        (Super().but(gso_type=0x85), DropReason.UNKNOWN_OFFLOAD),
        (Super().but(gso_type=4), DropReason.BAD_OFFLOAD_HEADER),
        (Super(version=6).but(gso_type=1), DropReason.BAD_OFFLOAD_HEADER),
        (Super().but(gso_type=5), DropReason.BAD_OFFLOAD_HEADER),
        (Super(protocol=UDP).but(gso_type=1, csum_offset=16), DropReason.BAD_OFFLOAD_HEADER),
        (Super().but(hdr_len=4055), DropReason.BAD_OFFLOAD_HEADER),
        (Super().but(gso_size=0), DropReason.BAD_OFFLOAD_HEADER),
        (Super().but(gso_size=7), DropReason.BAD_OFFLOAD_HEADER),
        (Super(protocol=UDP).but(gso_size=0), DropReason.BAD_OFFLOAD_HEADER),
        (Super(protocol=UDP).but(gso_size=31), DropReason.BAD_OFFLOAD_HEADER),
        (Super().but(csum_start=33), DropReason.BAD_OFFLOAD_HEADER),
        (Super().but(csum_start=35), DropReason.BAD_OFFLOAD_HEADER),
        (Super().but(csum_start=0), DropReason.BAD_OFFLOAD_HEADER),
        (Super().but(csum_start=0xFFFF), DropReason.BAD_OFFLOAD_HEADER),
        (Super().but(csum_offset=6), DropReason.BAD_OFFLOAD_HEADER),
        (Super().but(csum_offset=0xFFFF), DropReason.BAD_OFFLOAD_HEADER),
        (Super(size=0).but(csum_start=14), DropReason.BAD_OFFLOAD_HEADER),
        (Super(size=0).but(csum_offset=17), DropReason.BAD_OFFLOAD_HEADER),
        (Super(size=0, protocol=UDP).but(csum_offset=16), DropReason.BAD_OFFLOAD_HEADER),
        (Super(size=0).but(csum_start=4053, csum_offset=0), DropReason.BAD_OFFLOAD_HEADER),
        (Super(size=0, payload=bytes(65000)).but(csum_start=65000), DropReason.BAD_OFFLOAD_HEADER),
    ],
)
def test_offload_header_that_does_not_fit_its_frame_is_rejected(frame: Super, why: str) -> None:
    assert validate(frame.frame().data) == why


@pytest.mark.parametrize(
    ("what", "at", "new"),
    [
        ("no IP", 12, "88b5"),
        ("the other IP", 12, "86dd"),
        ("another version", 14, "65"),
        ("a header of 16 bytes", 14, "44"),
        ("a header past the end", 14, "4f"),
        ("a length too short", 16, "0fc7"),
        ("a length of 0", 16, "0000"),
        ("more fragments", 20, "2000"),
        ("a fragment", 20, "0001"),
        ("another protocol", 23, "01"),
        ("a TCP header of 16 bytes", 46, "40"),
    ],
)
def test_frame_that_contradicts_its_offload_header_is_rejected(
    what: str, at: int, new: str
) -> None:
    frame = replace(Super(), payload=b"x" * 20).frame()
    assert isinstance(validate(frame.data), Offsets)
    assert validate(patched(frame, at, bytes.fromhex(new))) == DropReason.BAD_OFFLOAD_HEADER


@pytest.mark.parametrize(
    ("what", "at", "new"),
    [
        ("a fragment", 20, "2c"),
        ("no TCP", 20, "3a"),
        ("an extension past the end", 20, "00"),
        ("a length too short", 18, "0001"),
        ("another version", 14, "45"),
    ],
)
def test_ipv6_frame_that_contradicts_its_offload_header_is_rejected(
    what: str, at: int, new: str
) -> None:
    frame = replace(Super(version=6), payload=b"\xff" * 20).frame()
    assert isinstance(validate(frame.data), Offsets)
    assert validate(patched(frame, at, bytes.fromhex(new))) == DropReason.BAD_OFFLOAD_HEADER


@pytest.mark.parametrize("frame", [Super(), Super(version=6), Super(protocol=UDP), Super(size=0)])
def test_frame_truncated_anywhere_is_rejected(frame: Super) -> None:
    data = replace(frame, payload=b"x" * 40, size=frame.size and 16).frame().data
    assert isinstance(validate(data), Offsets)
    for length in range(24, 10 + 14 + 20 + 8):
        assert validate(data[:length]) == DropReason.BAD_OFFLOAD_HEADER


def test_frame_with_too_many_tags_is_rejected() -> None:
    assert validate(Super(tags=TAG * 5).frame().data) == DropReason.BAD_OFFLOAD_HEADER


def test_frame_with_too_many_ipv6_extensions_is_rejected() -> None:
    one = bytes([60, 0, 1, 4, 0, 0, 0, 0])
    last = bytes([TCP]) + one[1:]
    assert isinstance(validate(Super(version=6, extensions=one * 7 + last).frame().data), Offsets)
    tower = Super(version=6, extensions=one * 8 + last)
    assert validate(tower.frame().data) == DropReason.BAD_OFFLOAD_HEADER
    assert validate(replace(tower, size=0).frame().data) == DropReason.BAD_OFFLOAD_HEADER, (
        "also without segments"
    )


def test_checksum_inside_a_tunnel_may_be_partial() -> None:
    outer = replace(Super(size=0, protocol=UDP), payload=b"x" * 100).frame()
    inner = bytearray(outer.data)
    inner[6:10] = struct.pack("<HH", 14 + 20 + 8 + 50, 16)
    assert isinstance(validate(bytes(inner)), Offsets)


def test_segments_over_the_mtu_are_rejected_and_tags_do_not_count() -> None:
    frame = Super(size=1448, options=bytes(12), tags=TAG * 2).frame()
    assert isinstance(validate(frame.data, 1500), Offsets)
    assert validate(frame.data, 1499) == DropReason.OVER_MTU
    short = replace(Super(size=1448), payload=b"x" * 100).frame()
    assert isinstance(validate(short.data, 140), Offsets), "there is only one, and that is short"


# --- segmentation and checksums -------------------------------------------------------------------


@pytest.mark.parametrize("frame", [Super(BIG), Super(BIG, version=6), Super(BIG, protocol=UDP)])
def test_segments_have_the_payload_and_valid_sizes_and_checksums(frame: Super) -> None:
    made = segments(frame)
    assert b"".join(parts(f).payload for f in made) == BIG
    assert {len(parts(f).payload) for f in made[:-1]} == {1448}
    assert all(map(checksums_hold, made))


def test_sequence_numbers_and_identifications_count_up_and_wrap() -> None:
    made = segments(Super(bytes(1448 * 4), sequence=2**32 - 1448 * 2, identification=0xFFFE))
    starts = [struct.unpack_from("!I", parts(f).transport, 4)[0] for f in made]
    assert starts == [2**32 - 2896, 2**32 - 1448, 0, 1448]
    assert [struct.unpack_from("!H", parts(f).ip, 4)[0] for f in made] == [0xFFFE, 0xFFFF, 0, 1]


def test_tcp_flags_are_set_on_the_first_the_last_or_every_segment() -> None:
    fin, psh, ack, ece, cwr = 0x01, 0x08, 0x10, 0x40, 0x80
    made = segments(Super(bytes(1448 * 3), flags=fin | psh | ack | ece | cwr, ecn=True))
    flags = [parts(f).transport[13] for f in made]
    assert flags == [ack | ece | cwr, ack | ece, ack | ece | psh | fin]


def test_tags_and_addresses_are_kept() -> None:
    frame = Super(tags=TAG)
    head = bytes(frame.frame().data)[10 : 10 + 16]
    assert {f[:16] for f in segments(frame)} == {head}


@pytest.mark.parametrize("payload", [b"", b"x", b"odd", bytes(1400)])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_partial_checksum_of_a_single_frame_is_completed(protocol: int, payload: bytes) -> None:
    frame = Super(payload, size=0, protocol=protocol)
    (made,) = segments(frame)
    assert checksums_hold(made)
    assert parts(made).payload == payload


def test_udp_checksum_of_zero_is_sent_as_ffff() -> None:
    found = 0
    for number in range(0x10000):
        (made,) = segments(Super(number.to_bytes(2, "big"), size=0, protocol=UDP))
        check = parts(made).transport[6:8]
        assert check != b"\0\0"
        found += check == b"\xff\xff"
    assert found


def test_udp_checksum_of_zero_in_a_segment_is_sent_as_ffff() -> None:
    found = 0
    for number in range(0x10000):
        last = segments(Super(b"first..." + number.to_bytes(2, "big"), size=8, protocol=UDP))[-1]
        check = parts(last).transport[6:8]
        assert check != b"\0\0"
        found += check == b"\xff\xff"
    assert found


def test_super_frame_of_one_segment_is_kept_whole() -> None:
    frame = Super(bytes(1448))
    (made,) = segments(frame)
    assert made[:40] == bytes(frame.frame().data)[10:50]
    assert checksums_hold(made)


def test_batch_becomes_plain_in_order_and_invalid_frames_are_counted() -> None:
    drops: Counter[DropReason] = Counter()
    batch: list[AnyFrame] = [
        b"first",
        Super(bytes(2000)).frame(),
        Super().but(flags=9).frame(),
        b"last",
    ]
    made = plain_frames(batch, drops)
    assert (made[0], len(made), made[-1]) == (b"first", 4, b"last")
    assert drops == {DropReason.UNKNOWN_OFFLOAD: 1}


# --- what comes from a kernel ---------------------------------------------------------------------


def test_offload_frame_without_work_becomes_a_plain_frame() -> None:
    assert from_kernel(bytes(10) + b"a frame") == b"a frame"
    assert from_kernel(b"\2" + bytes(9) + b"a frame") == b"a frame", "its sum was found good"


def test_offload_frame_with_work_keeps_its_header() -> None:
    frame = Super().frame()
    assert from_kernel(bytes(frame.data)) == frame
    assert from_kernel(b"\3" + bytes(frame.data)[1:]) == frame, "but for what is the kernel's own"


@pytest.mark.parametrize(("ports", "done"), [((67, 68), True), ((68, 67), True), ((67, 53), False)])
def test_checksum_of_dhcp_is_completed_at_once(ports: tuple[int, int], done: bool) -> None:
    frame = replace(Super(size=0, protocol=UDP), payload=bytes(300)).frame()
    raw = patched(frame, 34, struct.pack("!HH", *ports))
    made = from_kernel(raw)
    assert isinstance(made, bytes) == done
    if isinstance(made, bytes):
        assert checksums_hold(made)
