"""Options of neighbour discovery, and the sizes of IPv6 extension headers."""

from __future__ import annotations

import pytest

from vknet.counters import DropReason
from vknet.packet.ip import (
    AUTHENTICATION,
    FRAGMENT,
    IPV6_EXTENSIONS,
    ND_OPTIONS_MAX,
    NEIGHBOUR_SIZE,
    extension_size,
    nd_options,
)

MESSAGE = bytes(NEIGHBOUR_SIZE)
SHORT = b"\1\1" + bytes(6)
LONG = b"\3\4" + bytes(30)


@pytest.mark.parametrize("options", [[], [SHORT], [SHORT, LONG], [SHORT] * ND_OPTIONS_MAX])
def test_nd_options_are_split(options: list[bytes]) -> None:
    assert nd_options(MESSAGE + b"".join(options), NEIGHBOUR_SIZE) == (options, None)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (SHORT[:7], DropReason.CUT_SHORT),
        (SHORT[:1], DropReason.CUT_SHORT),
        (b"\1\0" + bytes(6), DropReason.MALFORMED),
        (LONG[:-8], DropReason.MALFORMED),
        (b"\1\xff" + bytes(6), DropReason.MALFORMED),
    ],
)
def test_wrong_nd_option_ends_the_split_with_a_reason(options: bytes, why: DropReason) -> None:
    assert nd_options(MESSAGE + options, NEIGHBOUR_SIZE) == ([], why)
    assert nd_options(MESSAGE + LONG + options, NEIGHBOUR_SIZE) == ([LONG], why)


def test_more_nd_options_than_the_limit_are_malformed() -> None:
    message = MESSAGE + SHORT * (ND_OPTIONS_MAX + 1)
    options, why = nd_options(message, NEIGHBOUR_SIZE)
    assert (len(options), why) == (ND_OPTIONS_MAX, DropReason.MALFORMED)


def test_message_shorter_than_its_header_has_no_nd_options() -> None:
    assert nd_options(MESSAGE[:8], NEIGHBOUR_SIZE) == ([], None)


def test_size_of_an_extension_header_depends_on_its_kind() -> None:
    for kind in IPV6_EXTENSIONS - {FRAGMENT, AUTHENTICATION}:
        assert [extension_size(kind, length) for length in (0, 1, 255)] == [8, 16, 2048]
    assert [extension_size(FRAGMENT, length) for length in (0, 255)] == [8, 8]
    assert [extension_size(AUTHENTICATION, length) for length in (0, 4, 255)] == [8, 24, 1028]
