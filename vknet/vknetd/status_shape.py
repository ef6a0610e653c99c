"""The shape of a status, as docs/vknetd.8 documents it.  Pure.

The status that ``vknetd --status`` reads comes from another program, possibly a newer vknetd, or
none at all.  A status with the documented keys and types can be shown.  Further keys may have any
content.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["NotAStatus", "checked_status"]

ID_MAX: Final = 2**32 - 1
COUNT_MAX: Final = 2**64 - 1
# A thousand years.
SECONDS_MAX: Final = 3.2e10
VLAN_MAX: Final = 4095
PROTOCOL_MAX: Final = 255
TEXT_MAX: Final = 1000

# The deepest documented value is at depth 5.
DEPTH_MAX: Final = 20


class NotAStatus(ValueError):
    """The value is not a status; the message says where."""


def checked_status(answer: object) -> dict[str, Any]:
    """Return an answer of a control socket, if it is a status.

    Args:
        answer: any value that `json.loads` returns.

    Raises:
        NotAStatus: it is not a status; the message says where.
    """
    _check_depth(answer)
    _STATUS(answer, "it")
    return cast("dict[str, Any]", answer)


def _check_depth(answer: object) -> None:
    """Refuse what `json.dumps` cannot write: deep nesting, and numbers that are not finite."""
    level = [answer]
    for _ in range(DEPTH_MAX):
        if not level:
            return
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, float) and not math.isfinite(value):
                raise NotAStatus("it has a number that is not finite")
        level = below
    raise NotAStatus("it is nested too deeply")


# Each checks a value, and raises an error that begins with the name of its place.


def _text(value: object, where: str) -> None:
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        raise NotAStatus(f"{where} is not a short text")


def _flag(value: object, where: str) -> None:
    if not isinstance(value, bool):
        raise NotAStatus(f"{where} is neither true nor false")


def _whole(most: int) -> Callable[[object, str], None]:
    def check(value: object, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise NotAStatus(f"{where} is not a whole number")
        if not 0 <= value <= most:
            raise NotAStatus(f"{where} is out of range")

    return check


def _seconds(value: object, where: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise NotAStatus(f"{where} is not a number")
    if not 0 <= value <= SECONDS_MAX:
        raise NotAStatus(f"{where} is out of range")


def _optional(check: Callable[[object, str], None]) -> Callable[[object, str], None]:
    def check_unless_null(value: object, where: str) -> None:
        if value is not None:
            check(value, where)

    return check_unless_null


def _list(check: Callable[[object, str], None]) -> Callable[[object, str], None]:
    def check_all(value: object, where: str) -> None:
        if not isinstance(value, list):
            raise NotAStatus(f"{where} is not a list")
        for number, item in enumerate(value):
            check(item, f"{where}[{number}]")

    return check_all


def _object(keys: Mapping[str, Callable[[object, str], None]]) -> Callable[[object, str], None]:
    def check(value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise NotAStatus(f"{where} is not an object")
        for key, check_value in keys.items():
            if key not in value:
                raise NotAStatus(f"{where} has no {key}")
            check_value(value[key], f"{where}.{key}")

    return check


def _drops(value: object, where: str) -> None:
    if not isinstance(value, dict):
        raise NotAStatus(f"{where} is not an object")
    for reason, number in value.items():
        _text(reason, f"a reason in {where}")
        _count(number, f"a number in {where}")


_count = _whole(COUNT_MAX)
_id = _whole(ID_MAX)
_traffic = _object({"frames": _count, "bytes": _count, "ecn_marks": _count, "drops": _drops})

_PORT = _object(
    {
        "name": _text,
        "kind": _text,
        "bridge": _optional(_text),
        "pid": _optional(_id),
        "uid": _optional(_id),
        "gid": _optional(_id),
        "command": _optional(_text),
        "seconds": _seconds,
        "addresses": _count,
        "waiting_frames": _count,
        "waiting_bytes": _count,
        "in": _traffic,
        "out": _traffic,
    }
)

_ENTRY = _object(
    {
        "mac": _text,
        "vlan": _whole(VLAN_MAX),
        "port": _text,
        "idle": _seconds,
        "pinned": _flag,
    }
)

_TABLE = _object(
    {
        "age": _seconds,
        "limit": _count,
        "moves": _count,
        "evictions": _count,
        "forgeries": _count,
        "entries": _list(_ENTRY),
    }
)

_OUTSIDE = _object(
    {
        "macs": _count,
        "contested": _count,
        "ipv4": _count,
        "ipv6": _count,
        "limit": _count,
        "not_remembered": _count,
    }
)

_STATUS = _object(
    {
        "program": _text,
        "pid": _id,
        "socket": _text,
        "seconds": _seconds,
        "secure": _flag,
        "prefixes": _list(_text),
        "gateways": _list(_text),
        "roaming": _list(_text),
        "protocols": _list(_whole(PROTOCOL_MAX)),
        "clients": _count,
        "clients_max": _count,
        "clients_refused": _count,
        "ports": _list(_PORT),
        "table": _TABLE,
        "outside": _optional(_OUTSIDE),
    }
)
