"""What a frame's header says, whether it comes as bytes or as a view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vknet.packet.ethernet import (
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    TAGS_MAX,
    Addresses,
    Header,
    addresses,
    format_mac,
    is_multicast,
    parse_header,
    parse_mac,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vknet.framing import Frame

A = bytes.fromhex("02000000000a")
B = bytes.fromhex("02000000000b")
IPV4 = b"\x08\x00"

as_frame = pytest.mark.parametrize("as_frame", [bytes, memoryview])


def tag(vlan: int, kind: int = 0x8100, priority: int = 0) -> bytes:
    return kind.to_bytes(2, "big") + (priority << 13 | vlan).to_bytes(2, "big")


@as_frame
@pytest.mark.parametrize(
    ("tags", "vlan"),
    [
        (b"", 0),
        (tag(5), 5),
        (tag(4095), 4095),
        (tag(5, priority=7), 5),
        (tag(0, priority=7), 0),
        (tag(300, kind=0x88A8), 300),
        (tag(300, kind=0x88A8) + tag(5), 300),
        (tag(0) + tag(5), 0),
    ],
    ids=[
        "untagged",
        "tagged",
        "last number",
        "tagged with a priority",
        "a priority and no VLAN",
        "a provider's",
        "stacked",
        "stacked behind a priority",
    ],
)
def test_addresses_and_vlan_are_read_from_a_frame(
    as_frame: Callable[[bytes], Frame], tags: bytes, vlan: int
) -> None:
    frame = as_frame(A + B + tags + IPV4 + b"payload")
    assert addresses(frame) == (vlan, A, B)
    assert Addresses(vlan, A, B) == addresses(frame)
    header = parse_header(frame)
    assert header == Header(A, B, vlan, ETHERTYPE_IPV4, 14 + len(tags))
    assert bytes(frame[header.payload :]) == b"payload"


@as_frame
def test_addresses_serve_as_keys(as_frame: Callable[[bytes], Frame]) -> None:
    found = addresses(as_frame(A + B + IPV4))
    assert found is not None
    assert {A: "a", B: "b"}[found[1]] == "a"
    assert type(found[1]) is type(found[2]) is bytes


@as_frame
@pytest.mark.parametrize("kind", [0x8100, 0x88A8])
def test_truncated_header_has_no_addresses(as_frame: Callable[[bytes], Frame], kind: int) -> None:
    untagged = A + B + IPV4
    for size in range(len(untagged)):
        assert addresses(as_frame(untagged[:size])) is None
        assert parse_header(as_frame(untagged[:size])) is None
    tagged = A + B + tag(5, kind) + IPV4
    for size in range(14, len(tagged)):
        assert addresses(as_frame(tagged[:size])) is None
        assert parse_header(as_frame(tagged[:size])) is None
    assert parse_header(as_frame(untagged)) == Header(A, B, 0, ETHERTYPE_IPV4, 14)
    assert parse_header(as_frame(tagged)) == Header(A, B, 5, ETHERTYPE_IPV4, 18)


def test_truncated_inner_tag_ends_the_header() -> None:
    frame = A + B + tag(5) + tag(6)
    for size in (18, 19, 20, 21):
        assert parse_header(frame[:size]) == Header(A, B, 5, 0x8100, 18)
    assert parse_header(frame + IPV4) == Header(A, B, 5, ETHERTYPE_IPV4, 22)


def test_number_of_tags_read_is_limited() -> None:
    few = A + B + tag(7) * TAGS_MAX + b"\x08\x06" + bytes(28)
    assert parse_header(few) == Header(A, B, 7, ETHERTYPE_ARP, 14 + 4 * TAGS_MAX)
    many = A + B + tag(7) * (TAGS_MAX + 1) + b"\x08\x06" + bytes(28)
    header = parse_header(many)
    assert header is not None
    assert (header.vlan, header.ethertype) == (7, 0x8100)


def test_length_of_an_802_3_frame_is_returned_as_its_type() -> None:
    bpdu = bytes.fromhex("0180c2000000") + A + b"\x00\x26" + bytes.fromhex("424203") + bytes(35)
    header = parse_header(bpdu)
    assert header is not None
    assert header.ethertype == 0x26


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("ff:ff:ff:ff:ff:ff", True),
        ("01:00:5e:00:00:fb", True),
        ("33:33:00:00:00:01", True),
        ("02:00:00:00:00:0a", False),
        ("00:00:00:00:00:00", False),
        ("fe:ff:ff:ff:ff:ff", False),
    ],
)
def test_group_address_is_recognized_and_keeps_its_text(text: str, group: bool) -> None:
    mac = parse_mac(text)
    assert is_multicast(mac) is group
    assert format_mac(mac) == text
    assert parse_mac(text.upper()) == mac


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:0a:0b",
        "02-00-00-00-00-0a",
        "2:0:0:0:0:a",
        "02:00:00:00:00:0g",
        "02:00:00:00:00:  ",
        " 02:00:00:00:00:0a",
        "02:00:00:00:00:0a\n",
        "02:00:00:00:00:\u0661a",
    ],
)
def test_invalid_mac_address_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="not a MAC address"):
        parse_mac(text)
