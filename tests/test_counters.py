"""The reasons for drops, which are an interface, and counters."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest

from vknet.counters import Counters, DropReason, TrafficCounters

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"


def described(page: str) -> list[tuple[str, str]]:
    """Return each slug and text in the list DROP REASONS of a manual page."""
    section = (DOCS / page).read_text().split("\n.Sh DROP REASONS\n")[1].split("\n.Sh ")[0]
    return re.findall(r"^\.It Cm (\S+)\n(.+)$", section, re.MULTILINE)


MANUALS: Final = [*described("vknet.1"), *described("vknetd.8")]
TABLE: Final = re.findall(
    r"^\| `([^`]+)` \| (.+) \|$",
    (DOCS / "troubleshooting.md").read_text().split("\n## Dropped frames\n")[1].split("\n## ")[0],
    re.MULTILINE,
)


@pytest.mark.parametrize("reason", DropReason)
def test_drop_reason_has_a_slug_and_a_text(reason: DropReason) -> None:
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", reason.value)
    assert reason.text
    assert reason.text.isprintable()
    assert not reason.text.endswith(".")


def test_drop_reasons_and_their_texts_are_unique() -> None:
    assert len({reason.value for reason in DropReason}) == len(DropReason.__members__)
    assert len({reason.text for reason in DropReason}) == len(DropReason)


@pytest.mark.parametrize("reason", [reason for reason in DropReason if reason != "loss"])
def test_drop_reason_is_in_a_manual_page_with_its_text(reason: DropReason) -> None:
    assert (reason.value, reason.text) in MANUALS


def test_drop_reason_of_the_simulated_path_is_in_the_prose_of_the_manual() -> None:
    prose = re.sub(r"\s+", " ", (DOCS / "vknet.1").read_text())
    assert f".Cm loss , {DropReason.LOSS.text}." in prose
    assert "loss" not in dict(MANUALS)


@pytest.mark.parametrize("reason", DropReason)
def test_drop_reason_is_in_the_troubleshooting_table_with_its_text(reason: DropReason) -> None:
    assert (reason.value, reason.text) in TABLE


def test_documents_describe_no_other_drop_reasons() -> None:
    known = {(reason.value, reason.text) for reason in DropReason}
    assert {*MANUALS, *TABLE} <= known


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
