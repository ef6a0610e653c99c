"""What the log says about failed attempts."""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from vknet.errors import PeerGone
from vknet.link import failure_log
from vknet.link.failure_log import FailureLog, since

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

DAY_S = 86_400.0


def lines_of(
    caplog: pytest.LogCaptureFixture, causes: Sequence[str], interval_s: float = 30.0
) -> list[str]:
    """Log the loss of a link, and then one failure after the other; return the lines."""
    log = FailureLog()
    with caplog.at_level(logging.INFO):
        log.lost(PeerGone("ssh was killed"), was_up=True, then="next try in 5 s", now=0.0)
        for number, cause in enumerate(causes, 1):
            log.lost(PeerGone(cause), was_up=False, then="next try in 9 s", now=number * interval_s)
    return caplog.messages


def test_failure_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    assert lines_of(caplog, ["no route"]) == [
        "link lost: ssh was killed; next try in 5 s",
        "no link: no route; next try in 9 s",
    ]


def test_repeated_cause_is_summarised_at_a_decreasing_rate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = lines_of(caplog, ["no route"] * 2880)
    tries = [int(line.split()[6]) for line in lines if "still the same after" in line]
    assert tries[:3] == [3, 7, 15]
    assert all(1.5 < b / a < 2.5 for a, b in pairwise(tries))
    assert len(lines) < 15


def test_new_cause_is_logged_and_an_earlier_one_is_not(caplog: pytest.LogCaptureFixture) -> None:
    lines = lines_of(caplog, ["refused", "timed out"] * 20, interval_s=1.0)
    assert [line.split(";")[0] for line in lines] == [
        "link lost: ssh was killed",
        "no link: refused",
        "no link: timed out",
    ]


def test_causes_that_differ_in_a_number_are_the_same(caplog: pytest.LogCaptureFixture) -> None:
    assert len(lines_of(caplog, [f"port {n}: timed out" for n in range(9)], interval_s=1.0)) == 2


def test_cause_is_logged_again_after_a_link(caplog: pytest.LogCaptureFixture) -> None:
    log = FailureLog()
    for _ in range(2):
        log.lost(PeerGone("killed"), was_up=True, then="", now=0.0)
        log.lost(PeerGone("no route"), was_up=False, then="", now=1.0)
    assert caplog.messages == ["link lost: killed", "no link: no route"] * 2


def test_endless_new_causes_are_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    log = FailureLog()
    for number in range(3 * failure_log.CAUSES_MAX):
        cause = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        log.lost(PeerGone(cause), was_up=False, then="", now=float(number))
    assert len(log._causes) == failure_log.CAUSES_MAX


def test_outage_of_another_day_has_its_date() -> None:
    now = time.time()
    assert since(now) == time.strftime("%H:%M", time.localtime(now))
    before = time.localtime(now - 2 * DAY_S)
    assert since(now - 2 * DAY_S) == time.strftime("%Y-%m-%d %H:%M", before)
