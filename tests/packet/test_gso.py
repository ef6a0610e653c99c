"""What a receiver gets of a batch: frames that it takes, and segments of the others."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.support.superframes import Super, checksums_hold
from vknet.counters import DropReason
from vknet.packet.gso import for_receiver, plain_frames
from vknet.packet.virtio import ALL_OFFLOADS, NO_OFFLOADS, Offload, header_kinds

if TYPE_CHECKING:
    from vknet.packet.virtio import AnyFrame

ALL: Final = header_kinds(ALL_OFFLOADS)
NONE: Final = header_kinds(NO_OFFLOADS)
SUPER: Final = Super(bytes(4000)).frame()
SIX: Final = Super(bytes(4000), version=6).frame()
CHECKSUM: Final = Super(bytes(500), size=0).frame()
UNFIT: Final = Super().but(csum_start=0).frame()
UNKNOWN: Final = Super().but(gso_type=9).frame()
BATCH: Final[list[AnyFrame]] = [b"first", SUPER, SIX, CHECKSUM, b"last"]


def test_receiver_gets_the_kinds_that_it_takes_unchanged() -> None:
    drops: Counter[DropReason] = Counter()
    assert for_receiver(BATCH, ALL, drops) == BATCH
    assert for_receiver(BATCH, ALL, drops, check_all=True) == BATCH
    assert not drops


def test_receiver_gets_segments_of_the_kinds_that_it_does_not_take() -> None:
    drops: Counter[DropReason] = Counter()
    kinds = header_kinds(Offload.CSUM | Offload.TSO6)
    first, *segments, six, checksum, last = for_receiver(BATCH, kinds, drops)
    assert (first, six, checksum, last) == (b"first", SIX, CHECKSUM, b"last")
    assert segments == plain_frames([SUPER], drops)
    assert len(segments) == 3
    assert not drops


def test_receiver_of_plain_frames_gets_no_offload_frame() -> None:
    drops: Counter[DropReason] = Counter()
    first, *segments, last = plain_frames(BATCH, drops)
    assert (first, last) == (b"first", b"last")
    assert len(segments) == 3 + 3 + 1
    assert all(checksums_hold(bytes(segment)) for segment in segments)
    assert for_receiver(BATCH, NONE, drops) == [first, *segments, last]
    assert not drops


def test_frame_whose_segments_do_not_fit_is_dropped_and_counted() -> None:
    drops: Counter[DropReason] = Counter()
    assert for_receiver([UNFIT, b"frame", UNKNOWN, UNFIT], NONE, drops) == [b"frame"]
    assert drops == {DropReason.BAD_OFFLOAD_HEADER: 2, DropReason.UNKNOWN_OFFLOAD: 1}


def test_frame_that_passes_is_validated_only_if_asked() -> None:
    drops: Counter[DropReason] = Counter()
    assert for_receiver([UNFIT], ALL, drops) == [UNFIT]
    assert not drops
    assert for_receiver([UNFIT], ALL, drops, check_all=True) == []
    assert drops == {DropReason.BAD_OFFLOAD_HEADER: 1}


def test_segments_over_the_mtu_are_dropped_and_counted() -> None:
    drops: Counter[DropReason] = Counter()
    assert for_receiver([SUPER, b"frame"], ALL, drops, check_all=True, mtu=1400) == [b"frame"]
    assert drops == {DropReason.OVER_MTU: 1}
    assert for_receiver([SUPER], ALL, drops, check_all=True, mtu=1500) == [SUPER]
