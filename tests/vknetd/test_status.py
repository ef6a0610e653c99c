"""The status as JSON and as text."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from vknet.counters import DropReason, TrafficCounters
from vknet.vknetd.status import _duration, _traffic, text_of


def status_with_drops(**drops: int) -> dict[str, Any]:
    """Return the status of a daemon with one client, which has lost frames for these reasons."""
    return {
        "program": "vknetd 1",
        "pid": 7,
        "socket": "/run/vknet",
        "seconds": 61,
        "secure": False,
        "prefixes": [],
        "outside": None,
        "clients": 1,
        "clients_max": 256,
        "clients_refused": 0,
        "ports": [
            {
                "name": "client1",
                "kind": "client",
                "bridge": None,
                "pid": 8,
                "uid": 9,
                "command": "linux",
                "seconds": 1,
                "in": {"frames": 0, "bytes": 0, "drops": {}},
                "out": {"frames": 5, "bytes": 300, "drops": drops},
            }
        ],
        "table": {"limit": 8192, "moves": 0, "evictions": 0, "forgeries": 0, "entries": []},
    }


def test_json_has_slugs_and_leaves_out_reasons_that_did_not_occur() -> None:
    drops = Counter({DropReason.QUEUE_FULL: 3, DropReason.RUNT: 0})
    status = _traffic(TrafficCounters(frames=5, bytes=300, drops=drops, ecn_marks=2))
    assert json.loads(json.dumps(status)) == {
        "frames": 5,
        "bytes": 300,
        "ecn_marks": 2,
        "drops": {"queue-full": 3},
    }


def test_text_explains_each_drop_reason() -> None:
    text = text_of(status_with_drops(**{"queue-full": 3}))
    assert text.splitlines()[-1] == "client1, out: 3 dropped: queue-full (the queue is full)"


def test_text_shows_an_unknown_drop_reason_of_a_newer_vknetd() -> None:
    text = text_of(status_with_drops(gravity=1))
    assert text.splitlines()[-1] == "client1, out: 1 dropped: gravity"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "0 s"), (61, "1 min 1 s"), (3660, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert _duration(seconds) == text
