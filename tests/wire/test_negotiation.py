"""What two HELLOs make of each field of `Negotiated`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from vknet.framing import FRAME_LIMIT_V2
from vknet.packet.virtio import ALL_OFFLOADS, DEFAULT_OFFLOADS, NO_OFFLOADS, Offload
from vknet.wire.hello import Hello
from vknet.wire.negotiation import Negotiated, negotiate

HELLO: Final = Hello("vknet 2.0", "tap0", FRAME_LIMIT_V2, 1500, mtu_fixed=False, timeout=15.0)


def with_mtu(mtu: int | None, *, fixed: bool = False) -> Hello:
    return replace(HELLO, mtu=mtu, mtu_fixed=fixed)


def test_all_terms_follow_from_two_hellos() -> None:
    ours = replace(HELLO, frame_limit=5000, offloads=DEFAULT_OFFLOADS, window=None)
    theirs = Hello(
        "vknet 3.0",
        "tap9",
        frame_limit=9000,
        mtu=1400,
        mtu_fixed=True,
        timeout=4.0,
        wire=3,
        offloads=Offload.CSUM | Offload.USO,
        window=7000,
        ack_time=True,
    )
    assert negotiate(ours, theirs) == Negotiated(
        frame_limit=9000,
        offloads=Offload.CSUM,
        window=7000,
        sends_acks=True,
        stamps_acks=True,
        timeout=15.0,
        peer_timeout=4.0,
        mtu=1400,
        may_change_mtu=True,
    )
    assert negotiate(theirs, ours) == Negotiated(
        frame_limit=5000,
        offloads=Offload.CSUM,
        window=7000,
        sends_acks=True,
        stamps_acks=False,
        timeout=4.0,
        peer_timeout=15.0,
        mtu=1400,
        may_change_mtu=True,
    )


@pytest.mark.parametrize(
    ("promised", "limit"),
    [(1, 1), (1500, 1500), (FRAME_LIMIT_V2, FRAME_LIMIT_V2), (2**31, FRAME_LIMIT_V2)],
)
def test_frame_limit_is_that_of_the_peer_up_to_that_of_the_wire(promised: int, limit: int) -> None:
    theirs = replace(HELLO, frame_limit=promised)
    for ours in (HELLO, replace(HELLO, frame_limit=100)):
        assert negotiate(ours, theirs).frame_limit == limit


@pytest.mark.parametrize(
    ("ours", "theirs", "common"),
    [
        (ALL_OFFLOADS, ALL_OFFLOADS, ALL_OFFLOADS),
        (ALL_OFFLOADS, DEFAULT_OFFLOADS, DEFAULT_OFFLOADS),
        (ALL_OFFLOADS, NO_OFFLOADS, NO_OFFLOADS),
        (Offload.CSUM | Offload.TSO4, Offload.CSUM | Offload.TSO6, Offload.CSUM),
        # Without CSUM on both sides nothing is left, and without TSO no TSO_ECN.
        (ALL_OFFLOADS, Offload.TSO4 | Offload.TSO6, NO_OFFLOADS),
        (ALL_OFFLOADS & ~Offload.TSO6, ALL_OFFLOADS & ~Offload.TSO4, Offload.CSUM | Offload.USO),
    ],
)
def test_offloads_are_those_that_both_accept_with_their_dependencies(
    ours: Offload, theirs: Offload, common: Offload
) -> None:
    one, two = replace(HELLO, offloads=ours), replace(HELLO, offloads=theirs)
    assert negotiate(one, two).offloads == negotiate(two, one).offloads == common


@pytest.mark.parametrize(
    ("ours", "theirs", "window"),
    [
        (None, None, None),
        (0, None, 0),
        (None, 0, 0),
        (5000, 0, 0),
        (0, 5000, 0),
        (5000, None, 5000),
        (None, 5000, 5000),
        (5000, 6000, 5000),
    ],
)
def test_window_is_off_if_either_side_turns_it_off(
    ours: int | None, theirs: int | None, window: int | None
) -> None:
    terms = negotiate(replace(HELLO, window=ours), replace(HELLO, window=theirs))
    assert terms.window == window
    assert terms.sends_acks is (window != 0)


@pytest.mark.parametrize("takes", [False, True])
def test_acks_are_stamped_if_the_peer_accepts_stamps(*, takes: bool) -> None:
    theirs = replace(HELLO, ack_time=takes)
    assert negotiate(replace(HELLO, ack_time=not takes), theirs).stamps_acks is takes


def test_timeout_is_the_own_one_unless_it_is_adopted() -> None:
    theirs = replace(HELLO, timeout=3.0)
    for adopt, timeout in ((False, 15.0), (True, 3.0)):
        terms = negotiate(HELLO, theirs, adopt_timeout=adopt)
        assert (terms.timeout, terms.peer_timeout) == (timeout, 3.0)


@pytest.mark.parametrize(
    ("ours", "theirs", "mtu"),
    [
        (with_mtu(1500), with_mtu(9000), 1500),
        (with_mtu(1500), with_mtu(1500), 1500),
        (with_mtu(1500), with_mtu(9000, fixed=True), 9000),
        (with_mtu(1500, fixed=True), with_mtu(1400), 1500),
        (with_mtu(1400, fixed=True), with_mtu(9000, fixed=True), 1400),
        (with_mtu(None), with_mtu(9000), 9000),
        (with_mtu(None, fixed=True), with_mtu(9000), 9000),
        (with_mtu(None), with_mtu(1400, fixed=True), 1400),
        (with_mtu(None), with_mtu(None), None),
    ],
)
def test_mtu_is_the_same_on_both_sides(ours: Hello, theirs: Hello, mtu: int | None) -> None:
    assert negotiate(ours, theirs).mtu == mtu
    assert negotiate(theirs, ours).mtu == mtu


@pytest.mark.parametrize(
    ("ours", "theirs", "may_change"),
    [
        (with_mtu(1500), with_mtu(1280), True),
        (with_mtu(1500), with_mtu(9000, fixed=True), True),
        # Below 1280 bytes Linux takes IPv6 off the interface: the peer may not cause that.
        (with_mtu(1500), with_mtu(1279), False),
        (with_mtu(1500), with_mtu(68, fixed=True), False),
        # The user chose it: nothing changes.
        (with_mtu(1000, fixed=True), with_mtu(1500), True),
        (with_mtu(1000), with_mtu(1000), True),
        (with_mtu(1000), with_mtu(1500), True),
        (with_mtu(None), with_mtu(1500), False),
        (with_mtu(None), with_mtu(None), False),
    ],
)
def test_peer_may_not_lower_the_mtu_below_that_of_ipv6(
    ours: Hello, theirs: Hello, may_change: bool
) -> None:
    assert negotiate(ours, theirs).may_change_mtu is may_change
