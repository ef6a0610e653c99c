"""The filter of secure mode, frame by frame."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from tests.support.filter_cases import DAD_PROBE, FILTER, LEGITIMATE, SPOOFED, TAGS
from tests.support.packets import (
    DESTINATION,
    EXPERIMENTAL,
    ICMP,
    ICMPV6,
    IPV4,
    TAP,
    TCP,
    UDP,
    add_tags,
    ethernet,
    extension,
    icmpv6,
    icmpv6_frame,
    neighbour,
    packet,
    tag,
    udp,
)
from tests.support.work import lines_during
from vknet.counters import DropReason
from vknet.switch.filter import SourceFilter

if TYPE_CHECKING:
    from collections.abc import Mapping


def each(cases: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("frame", cases.values(), ids=cases)


def each_spoof(cases: Mapping[str, tuple[bytes, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("frame", "reason"), cases.values(), ids=cases)


@each(LEGITIMATE)
def test_legitimate_frame_passes(frame: bytes) -> None:
    assert FILTER.check(frame) is None
    assert FILTER.check(memoryview(frame)) is None


@each_spoof(SPOOFED)
def test_spoofed_frame_is_dropped(frame: bytes, reason: str) -> None:
    assert FILTER.check(frame) == reason
    assert FILTER.check(memoryview(frame)) == reason


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
def test_vlan_tags_do_not_change_the_verdict(tags: bytes) -> None:
    for frame in LEGITIMATE.values():
        assert FILTER.check(add_tags(frame, tags)) is None
    for frame, reason in SPOOFED.values():
        if tag(5) * 5 not in frame:
            assert FILTER.check(add_tags(frame, tags)) == reason


@pytest.mark.parametrize("tags", [b"", tag(5)], ids=["untagged", "tagged"])
@each(LEGITIMATE)
def test_truncated_frame_is_dropped(frame: bytes, tags: bytes) -> None:
    whole = add_tags(frame, tags)
    for end in range(unpadded_size(whole, 14 + len(tags))):
        assert FILTER.check(whole[:end]) is not None


def unpadded_size(frame: bytes, start: int) -> int:
    """The size of a frame without its padding, in bytes; `start` is the offset of the payload."""
    match frame[start - 2 : start]:
        case b"\x08\x00":
            return start + int.from_bytes(frame[start + 2 : start + 4], "big")
        case b"\x86\xdd":
            return start + 40 + int.from_bytes(frame[start + 4 : start + 6], "big")
        case _:
            return start + 28


@pytest.mark.parametrize(
    ("protocol", "least", "whole"),
    [(UDP, 8, udp(9, 9)), (ICMP, 1, bytes(8)), (ICMPV6, 4, icmpv6(128)), (TCP, 0, bytes(20))],
    ids=["UDP", "ICMP", "ICMPv6", "TCP"],
)
def test_packet_too_short_for_its_protocol_header_is_dropped(
    protocol: int, least: int, whole: bytes
) -> None:
    source = "2001:db8::5" if protocol == ICMPV6 else "192.0.2.5"
    for size in range(len(whole)):
        # The bytes behind the packet are padding, even if they look like the rest of the header.
        frame = packet(source, protocol, whole[:size]) + whole[size:]
        assert FILTER.check(frame) == (DropReason.CUT_SHORT if size < least else None)


def test_udp_over_ipv6_too_short_for_its_ports_is_dropped() -> None:
    for size in range(9):
        frame = packet("2001:db8::5", UDP, udp(9, 9)[:size])
        assert FILTER.check(frame) == (DropReason.CUT_SHORT if size < 8 else None)


def test_frame_too_short_for_its_ethernet_header_is_dropped() -> None:
    frame = ethernet(EXPERIMENTAL, b"")
    for size in range(len(frame)):
        assert FILTER.check(frame[:size]) == DropReason.CUT_SHORT
    assert FILTER.check(frame) == DropReason.ETHERTYPE


@pytest.mark.parametrize("kind", [133, 135, 136])
def test_truncated_neighbour_discovery_is_dropped(kind: int) -> None:
    message = icmpv6(133) if kind == 133 else neighbour(kind, "2001:db8::5")
    for size in range(len(message)):
        assert FILTER.check(icmpv6_frame("2001:db8::5", message[:size])) == DropReason.CUT_SHORT
    assert FILTER.check(icmpv6_frame("2001:db8::5", message)) is None


def test_without_prefixes_only_address_configuration_passes() -> None:
    no_prefixes = SourceFilter([], TAP)
    passing = {name for name, frame in LEGITIMATE.items() if no_prefixes.check(frame) is None}
    assert "TCP over IPv6 from a link-local address" in passing
    assert "a DHCP discovery" in passing
    assert "a duplicate address detection, link-local" in passing
    for name in ("TCP over IPv4", "an ARP request", "an ARP probe", "TCP over IPv6"):
        assert name not in passing


def test_default_route_prefix_excludes_multicast_and_unspecified_sources() -> None:
    everything = SourceFilter([ip_network("0.0.0.0/0"), ip_network("::/0")], TAP)
    assert everything.check(packet("203.0.113.5")) is None
    assert everything.check(packet("2001:db9::5")) is None
    for source in ("0.0.0.0", "224.0.0.1", "255.255.255.255"):
        assert everything.check(packet(source)) == DropReason.IPV4_SOURCE
    for source in ("::", "ff02::1"):
        assert everything.check(packet(source)) == DropReason.IPV6_SOURCE


@pytest.mark.parametrize("prefix", ["192.0.2.8/31", "192.0.2.9/32"])
def test_prefix_of_at_most_two_addresses_has_no_broadcast_address(prefix: str) -> None:
    narrow = SourceFilter([ip_network(prefix)], TAP)
    assert narrow.check(packet("192.0.2.9")) is None
    assert narrow.check(packet("192.0.2.10")) == DropReason.IPV4_SOURCE


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(IPV4, b"", tags=tag(5) * 16_000),
        packet("fe80::5", DESTINATION, extension(DESTINATION) * 8_000),
        icmpv6_frame("fe80::5", DAD_PROBE + b"\x0e\x01" * 4 * 8_000),
    ],
    ids=["tags", "extension headers", "options"],
)
def test_work_per_frame_is_bounded(frame: bytes) -> None:
    assert FILTER.check(frame) is not None
    # The frame has at least 8,000 tags, headers or options; each takes more than one line to parse.
    assert lines_during(lambda: FILTER.check(frame)) < 1000
