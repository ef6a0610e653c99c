"""`vknetd --status`: any answer is refused in one line, or shown in lines that are safe.

The input begins with a byte.  If it is odd, the answer follows.  Otherwise the bytes that follow
choose the values of a status of the documented shape, within its limits and beyond them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from fuzz.source import Source
from vknet.counters import DropReason
from vknet.vknetd.status import text_of
from vknet.vknetd.status_shape import NotAStatus, checked_status

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SIZE: Final = 3000
WORDS: Final = (
    *(b"\x1b[2J", b"\n", b"\r", "\u202e".encode(), b"\xff\xff\xff\xff", b"queue-full"),
    *(
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-1",
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'"',
        b"[[[[",
        b"\\u001b",
    ),
    *(f'"{key}":'.encode() for key in ("ports", "table", "entries", "drops", "in", "out", "uid")),
    *(f'"{key}":'.encode() for key in ("seconds", "vlan", "prefixes", "kind", "bridge", "command")),
)

LISTED_MAX: Final = 4
LINE_MAX: Final = 12_000
MESSAGE_MAX: Final = 200


def seeds() -> dict[str, bytes]:
    chosen = {
        "zeros": bytes(300),
        "texts": bytes(range(1, 120)) * 3,
        "large": b"\xff" * 400,
        "escapes": b"\3\x04\x1b[2J" * 40,
        "odd": bytes(range(0, 255, 7)) * 8,
    }
    answers = {
        f"answer of {name}": json.dumps(status(Source(data))).encode()
        for name, data in chosen.items()
    }
    answers |= {
        "no answer": b"",
        "busy": b'{"busy": true}\n',
        "not an object": b"[1, 2]",
        "nested": b"[" * 1500,
        "long number": b'{"pid": ' + b"9" * 1000 + b"}",
        "not finite": answers["answer of zeros"].replace(b"0.0", b"NaN"),
    }
    return {
        **{name: b"\0" + data for name, data in chosen.items()},
        **{name: b"\1" + data[: MAX_SIZE - 1] for name, data in answers.items()},
    }


def text(source: Source) -> str:
    return source.take(source.number() % 40).decode("utf-8", "surrogateescape")


def number(source: Source) -> int:
    return source.number(source.choice((1, 2, 4, 8)))


def identity(source: Source) -> int:
    """Return a pid, or the number of a user or a group; too large a one at times."""
    return source.number(5 if source.number() == 1 else 4)


def seconds(source: Source) -> float:
    return round(source.number(4) / source.choice((1, 7, 1000)), 3)


def optional(value: Callable[[Source], Any]) -> Callable[[Source], Any]:
    return lambda source: value(source) if source.number() & 1 else None


def listed(value: Callable[[Source], Any]) -> Callable[[Source], list[Any]]:
    return lambda source: [value(source) for _ in range(source.number() % LISTED_MAX)]


def traffic(source: Source) -> dict[str, Any]:
    return {
        "frames": number(source),
        "bytes": number(source),
        "ecn_marks": number(source),
        "drops": {
            source.choice([*map(str, DropReason), text(source)]): number(source)
            for _ in range(source.number() % LISTED_MAX)
        },
    }


def port(source: Source) -> dict[str, Any]:
    return {
        "name": text(source),
        "kind": source.choice(("tap", "client", "later")),
        "bridge": optional(text)(source),
        "pid": optional(identity)(source),
        "uid": identity(source),
        "gid": identity(source),
        "command": optional(text)(source),
        "seconds": seconds(source),
        "addresses": number(source),
        "waiting_frames": number(source),
        "waiting_bytes": number(source),
        "in": traffic(source),
        "out": traffic(source),
    }


def entry(source: Source) -> dict[str, Any]:
    return {
        "mac": text(source),
        "vlan": source.number(2) % 4096,
        "port": text(source),
        "idle": seconds(source),
        "pinned": bool(source.number() & 1),
    }


def outside(source: Source) -> dict[str, Any]:
    """Return what secure mode has seen outside."""
    keys = ("macs", "contested", "ipv4", "ipv6", "limit", "not_remembered")
    return {key: number(source) for key in keys}


def status(source: Source) -> dict[str, Any]:
    """Return a status of the shape that docs/vknetd.8 documents."""
    return {
        "program": text(source),
        "pid": identity(source),
        "socket": text(source),
        "seconds": seconds(source),
        "secure": bool(source.number() & 1),
        "prefixes": listed(text)(source),
        "gateways": listed(text)(source),
        "roaming": listed(text)(source),
        "protocols": listed(Source.number)(source),
        "clients": number(source),
        "clients_max": number(source),
        "clients_refused": number(source),
        "ports": listed(port)(source),
        "table": {
            "age": seconds(source),
            "limit": number(source),
            "moves": number(source),
            "evictions": number(source),
            "forgeries": number(source),
            "entries": listed(entry)(source),
        },
        "outside": optional(outside)(source),
    }


def run(data: bytes) -> None:
    if data[:1] and data[0] & 1:
        try:
            answer = json.loads(data[1:])
        except (ValueError, RecursionError):
            return
    else:
        answer = json.loads(json.dumps(status(Source(data[1:]))))
    message = ""
    try:
        checked = checked_status(answer)
    except NotAStatus as exc:
        message = str(exc)
    else:
        check_text(checked)
        # For --json.
        assert json.loads(json.dumps(checked, allow_nan=False)) == answer
        return
    assert message.isprintable()
    assert 0 < len(message) < MESSAGE_MAX


def check_text(checked: dict[str, Any]) -> None:
    lines = text_of(checked, str).split("\n")
    assert all(line.isprintable() for line in lines), "a control character for the terminal"
    assert all(len(line) <= LINE_MAX for line in lines)
    ports, entries = checked["ports"], checked["table"]["entries"]
    drops = [slug for port in ports for side in ("in", "out") for slug in port[side]["drops"]]
    shown = [part for part in (ports, entries) if part]
    # Four or five lines at the top; each table has a head, and an empty line before it.
    below = sum(len(part) + 2 for part in shown) + len(drops) + bool(drops)
    assert len(lines) - below in (4, 5)
