"""Answers of a control socket: a status is accepted, anything else is refused with its place."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vknet import memory_endpoint_pair
from vknet.counters import DropReason
from vknet.switch.filter import SourceFilter
from vknet.switch.guard import Guard
from vknet.switch.switch import Port
from vknet.switch.table import ENTRIES_MAX, MacTable
from vknet.vknetd.query import ANSWER_MAX_BYTES
from vknet.vknetd.status import (
    PORTS_SHOWN_MAX,
    Peer,
    outside_status,
    port_status,
    table_status,
    text_of,
)
from vknet.vknetd.status_shape import NotAStatus, checked_status


def status() -> dict[str, Any]:
    """The status of a daemon with one client and one address, as its client reads it."""
    port = Port("client1", memory_endpoint_pair()[0])
    port.counters.inbound.drops[DropReason.RUNT] = 3
    table = MacTable[Port]()
    table.learn(7, bytes(5) + b"\2", port, 0)
    peer = Peer(0, "client", pid=8, uid=1000, gid=1000, command="linux")
    made = {
        "program": "vknetd 1",
        "pid": 7,
        "socket": "/run/vknet",
        "seconds": 61.5,
        "secure": True,
        "prefixes": ["198.18.5.0/24"],
        "gateways": ["198.18.5.254"],
        "roaming": ["02:00:00:00:05:01"],
        "protocols": [1, 2, 6],
        "clients": 1,
        "clients_max": 256,
        "clients_refused": 0,
        "ports": [port_status(port, peer, 1, 2.0)],
        "table": table_status(table, 300.0, ENTRIES_MAX, 2.0),
        "outside": outside_status(Guard(SourceFilter([], bytes(6)))),
    }
    read: dict[str, Any] = json.loads(json.dumps(made))
    return read


def paths(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value within a status."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += paths(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            found += paths(item, (*path, number))
    return found


def replaced(path: tuple[Any, ...], value: object) -> dict[str, Any]:
    """A status in which another value is at this place."""
    made = copy.deepcopy(status())
    place: Any = made
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return made


ODD: list[object] = [None, True, -1, 0, 2**64, 1e300, "", "x" * 2000, [], {}, [[]], {"a": {}}]


def test_status_of_a_daemon_is_accepted_unchanged() -> None:
    assert checked_status(status()) == status()


def test_newer_status_with_further_keys_is_accepted() -> None:
    newer = replaced(("new",), {"a": [1.5, None, "x", -3]})
    newer["ports"][0]["new"] = 7
    newer["table"]["entries"][0]["new"] = "x"
    assert checked_status(newer) == newer


@pytest.mark.parametrize("path", [path for path in paths(status()) if isinstance(path[-1], str)])
def test_status_without_one_of_its_keys_is_refused(path: tuple[Any, ...]) -> None:
    if path[-2:-1] == ("drops",):
        return
    broken = copy.deepcopy(status())
    place: Any = broken
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    with pytest.raises(NotAStatus, match=f"has no {path[-1]}"):
        checked_status(broken)


@pytest.mark.parametrize("path", paths(status()), ids=str)
def test_whatever_is_accepted_can_be_shown(path: tuple[Any, ...]) -> None:
    for value in ODD:
        changed = replaced(path, value)
        try:
            checked_status(changed)
        except NotAStatus:
            continue
        assert text_of(changed).encode()
        assert json.dumps(changed, indent=2, allow_nan=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(st.sampled_from(paths(status())), JSON)
def test_any_value_at_any_place_is_refused_or_can_be_shown(
    path: tuple[Any, ...], value: object
) -> None:
    changed = replaced(path, value)
    try:
        checked_status(changed)
    except NotAStatus:
        return
    text = text_of(changed)
    assert all(line.isprintable() for line in text.splitlines())
    assert json.dumps(changed, indent=2, allow_nan=False)


@pytest.mark.parametrize("nested", ["[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900])
def test_deep_nesting_is_refused(nested: str) -> None:
    with pytest.raises(NotAStatus, match="nested too deeply"):
        checked_status(replaced(("new",), json.loads(nested)))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_number_that_is_not_finite_is_refused(number: str) -> None:
    with pytest.raises(NotAStatus, match="not finite"):
        checked_status(replaced(("new",), json.loads(number)))


def test_largest_status_is_below_the_bound_of_its_reader() -> None:
    made = status()
    largest = 2**63
    drops = {reason.value: largest for reason in DropReason}
    traffic = {"frames": largest, "bytes": largest, "ecn_marks": largest, "drops": drops}
    # No port has every reason: those of the filter are for the uplink alone.
    few = {**traffic, "drops": dict(list(drops.items())[:8])}
    port = {
        **made["ports"][0],
        "name": "client4294967296",
        "pid": 2**32 - 1,
        "uid": 2**32 - 1,
        "gid": 2**32 - 1,
        "command": "\u00e9" * 16,
        "seconds": 31536000.123,
        "waiting_frames": 1024,
        "waiting_bytes": 1048576,
        "in": few,
        "out": few,
    }
    entry = {**made["table"]["entries"][0], "vlan": 4095, "port": port["name"], "idle": 999999.999}
    made["ports"] = [{**port, "in": traffic, "out": traffic}] + [port] * (PORTS_SHOWN_MAX - 1)
    made["table"]["entries"] = [entry] * ENTRIES_MAX
    assert len(json.dumps(made).encode()) < ANSWER_MAX_BYTES
    assert checked_status(made)
