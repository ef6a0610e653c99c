"""`vknetd --status`: a status of any text and numbers is shown in lines that are safe.

The input chooses the values of a status of the documented shape.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from fuzz.source import Source
from vknet.counters import DropReason
from vknet.vknetd.status import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SIZE: Final = 2000
WORDS: Final = (b"\x1b[2J", b"\n", b"\r", "\u202e".encode(), b"\xff\xff\xff\xff", b"queue-full")

LISTED_MAX: Final = 4
LINE_MAX: Final = 12_000


def seeds() -> dict[str, bytes]:
    return {
        "empty": b"",
        "zeros": bytes(300),
        "texts": bytes(range(1, 120)) * 3,
        "large": b"\xff" * 400,
        "escapes": b"\3\x04\x1b[2J" * 40,
        "odd": bytes(range(0, 255, 7)) * 8,
    }


def text(source: Source) -> str:
    return source.take(source.number() % 40).decode("utf-8", "surrogateescape")


def number(source: Source) -> int:
    return source.number(source.choice((1, 2, 4, 8)))


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
        "pid": optional(number)(source),
        "uid": number(source),
        "gid": number(source),
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


def status(source: Source) -> dict[str, Any]:
    """Return a status of the shape that docs/vknetd.8 documents."""
    return {
        "program": text(source),
        "pid": number(source),
        "socket": text(source),
        "seconds": seconds(source),
        "secure": bool(source.number() & 1),
        "prefixes": listed(text)(source),
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
    }


def run(data: bytes) -> None:
    made = status(Source(data))
    answer = json.loads(json.dumps(made))
    assert answer == made
    shown = text_of(answer, str)
    lines = shown.split("\n")
    assert all(line.isprintable() for line in lines), "a control character for the terminal"
    assert all(len(line) <= LINE_MAX for line in lines)
    ports = made["ports"]
    assert len(lines) <= 4 + 2 * len(ports) + 8 * LISTED_MAX + len(made["table"]["entries"]) + 6
    if made["ports"]:
        assert any(line.startswith("PORT") for line in lines)
