"""The reasons for drops, which are an interface, and counters."""

from __future__ import annotations

import json
import re

import pytest

from vknet.counters import Counters, DropReason, TrafficCounters


@pytest.mark.parametrize("reason", DropReason)
def test_drop_reason_has_a_slug_and_a_text(reason: DropReason) -> None:
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", reason.value)
    assert reason.text
    assert reason.text.isprintable()
    assert not reason.text.endswith(".")


def test_drop_reasons_and_their_texts_are_unique() -> None:
    assert len({reason.value for reason in DropReason}) == len(DropReason.__members__)
    assert len({reason.text for reason in DropReason}) == len(DropReason)


def test_drop_reason_is_its_slug() -> None:
    reason = DropReason.OVER_PEER_LIMIT
    assert reason == "over-peer-limit" == str(reason) == f"{reason}"
    assert {one.value: one for one in DropReason}["over-peer-limit"] is reason
    assert json.loads(json.dumps({reason: 1})) == {"over-peer-limit": 1}


def test_copied_counters_do_not_follow_the_original() -> None:
    counters = TrafficCounters(1, 60, ecn_marks=2)
    counters.drops[DropReason.RUNT] += 1
    copy = counters.copy()
    assert copy == counters
    counters.frames += 1
    counters.drops[DropReason.RUNT] += 1
    assert (copy.frames, copy.drops) == (1, {DropReason.RUNT: 1})


def test_counters_of_two_links_share_nothing() -> None:
    one, two = Counters(), Counters()
    one.outbound.drops[DropReason.RUNT] += 1
    assert two == Counters()
    assert one.inbound.drops == {}
