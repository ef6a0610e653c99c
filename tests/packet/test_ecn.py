"""Congestion marks, in packets of either kind."""

from __future__ import annotations

import pytest

from tests.support.bottleneck import CE, ECT0, ECT1, NOT_CAPABLE, datagram
from tests.support.packets import ARP, arp, ethernet, ones_sum, tag
from vknet.packet.ecn import mark_ce

either = pytest.mark.parametrize("version", [4, 6])


@either
@pytest.mark.parametrize("ecn", [ECT0, ECT1])
@pytest.mark.parametrize("tags", [b"", tag(5), tag(5) * 2], ids=["untagged", "a tag", "two tags"])
def test_ecn_capable_packet_is_marked_and_otherwise_unchanged(
    version: int, ecn: int, tags: bytes
) -> None:
    frame = datagram(7, 1, 200, ecn=ecn, tags=tags, version=version)
    assert mark_ce(frame) == datagram(7, 1, 200, ecn=CE, tags=tags, version=version)


@either
def test_packet_without_ecn_is_not_marked(version: int) -> None:
    assert mark_ce(datagram(7, version=version, ecn=NOT_CAPABLE, size=100)) is None


@either
def test_marked_packet_is_not_copied(version: int) -> None:
    frame = datagram(7, version=version, ecn=CE, size=100)
    assert mark_ce(frame) is frame


@either
def test_shared_frame_is_not_written_to(version: int) -> None:
    shared = bytearray(datagram(7, version=version, ecn=ECT0, size=100))
    before = bytes(shared)
    marked = mark_ce(memoryview(shared))
    assert type(marked) is bytes
    assert marked != shared == before


@pytest.mark.parametrize("ecn", [ECT0, ECT1])
def test_checksum_stays_valid_when_its_sum_carries(ecn: int) -> None:
    # Over all identifications the checksum takes every value there is.
    for number in range(0x10000):
        marked = mark_ce(datagram(7, number, 64, ecn=ecn))
        assert marked is not None
        assert ones_sum(bytes(marked[14:34])) == 0xFFFF


def test_invalid_checksum_stays_invalid() -> None:
    frame = bytearray(datagram(7, ecn=ECT0))
    frame[24] ^= 1
    marked = mark_ce(bytes(frame))
    assert marked is not None
    assert ones_sum(bytes(marked[14:34])) != 0xFFFF


def test_frame_without_a_whole_ip_header_is_not_marked() -> None:
    assert mark_ce(ethernet(ARP, b"\x45\x03" + arp("198.18.0.1"))) is None
    for version, whole in ((4, 34), (6, 54)):
        frame = datagram(7, version=version, ecn=ECT0, size=100)
        assert mark_ce(frame[:whole]) is not None
        for size in range(whole):
            assert mark_ce(frame[:size]) is None
        assert mark_ce(frame[:14] + bytes([0x55]) + frame[15:]) is None
