"""The description of a frame in one line."""

from __future__ import annotations

import pytest

from tests.support.described_frames import DHCP_COOKIE, LINES, MACS, MESSAGES, PREFIX_OPTION
from tests.support.packets import (
    ALL_NODES,
    BROADCAST,
    DESTINATION,
    EXPERIMENTAL,
    ICMPV6,
    IPV4,
    dhcpv4,
    dhcpv4_frame,
    ethernet,
    extension,
    icmpv6,
    packet,
    tag,
)
from tests.support.work import lines_during
from vknet.capture.describe import describe


@pytest.mark.parametrize("name", LINES)
def test_frame_is_described_in_one_line(name: str) -> None:
    frame, expected = LINES[name]
    assert describe(frame) == MACS + expected
    assert describe(memoryview(frame)) == MACS + expected


@pytest.mark.parametrize("name", MESSAGES)
def test_control_message_is_described_in_words(name: str) -> None:
    frame, expected = MESSAGES[name]
    assert describe(frame).endswith(f", {expected}, length {len(frame)}")


def test_source_comes_before_the_destination() -> None:
    line = describe(ethernet(EXPERIMENTAL, b"", source=ALL_NODES, destination=BROADCAST))
    assert line == "33:33:00:00:00:01 > ff:ff:ff:ff:ff:ff, type 0x88b5, length 14"


def test_runt_is_shown_in_hexadecimal() -> None:
    assert describe(b"") == "cut short, length 0"
    assert describe(b"\x1b[2J") == "cut short: 1b 5b 32 4a, length 4"
    tagged = ethernet(EXPERIMENTAL, b"", tags=tag(5))
    assert describe(tagged[:17]) == f"cut short: {tagged[:17].hex(' ')}, length 17"
    assert describe(tagged) == MACS + "vlan 5, type 0x88b5, length 18"


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(IPV4, b"", tags=tag(5) * 16_000),
        packet("fe80::5", DESTINATION, extension(DESTINATION) * 8_000),
        packet("fe80::5", ICMPV6, icmpv6(134, bytes(12) + PREFIX_OPTION * 2_000)),
        dhcpv4_frame(dhcpv4(DHCP_COOKIE + bytes(60_000))),
    ],
    ids=["tags", "extension headers", "prefixes", "DHCP options"],
)
def test_length_of_the_line_and_work_per_frame_are_bounded(frame: bytes) -> None:
    assert len(describe(frame)) < 1000
    # The frame has thousands of tags, headers or options; each takes several lines to parse.
    assert lines_during(lambda: describe(frame)) < 5000
