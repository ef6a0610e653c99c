"""What a vknetd tells of itself: for programs as JSON, for people as a table.  Pure.

The keys are an interface (docs/vknetd.8): new ones may come, none goes or changes its meaning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vknet.errors import escaped
from vknet.packet.ethernet import format_mac

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from vknet.counters import TrafficCounters
    from vknet.switch.switch import Port
    from vknet.switch.table import MacTable

__all__ = ["Peer", "port_status", "table_status", "text_of"]

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is behind a port.

    Attributes:
        since: when it came, on the daemon's clock, in seconds.
        kind: ``tap`` or ``client``.
        bridge: of a TAP.
        pid, uid, gid: of a client when it connected (SO_PEERCRED); the pid is None where it is in
            no pid namespace of ours.
        command: what it was called then.
    """

    since: float
    kind: str
    bridge: str | None = None
    pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    command: str | None = None


def port_status(port: Port, peer: Peer, addresses: int, now: float) -> dict[str, Any]:
    """One port, as JSON takes it; `addresses` is how many the table has of it."""
    counters = port.snapshot()
    return {
        "name": port.name,
        "kind": peer.kind,
        "bridge": peer.bridge,
        "pid": peer.pid,
        "uid": peer.uid,
        "gid": peer.gid,
        "command": peer.command,
        "seconds": round(now - peer.since, 3),
        "addresses": addresses,
        "waiting_frames": len(port.waiting),
        "waiting_bytes": port.waiting.backlog_bytes,
        "in": _direction(counters.inbound),
        "out": _direction(counters.outbound),
    }


def table_status(table: MacTable[Port], age: float, limit: int, now: float) -> dict[str, Any]:
    """The MAC table, as JSON takes it: pinned addresses first, then those seen last."""
    return {
        "age": age,
        "limit": limit,
        "moves": table.moves,
        "evictions": table.evictions,
        "forgeries": table.forgeries,
        "entries": [
            {
                "mac": format_mac(entry.mac),
                "vlan": entry.vlan,
                "port": entry.port.name,
                "idle": round(entry.idle, 3),
                "pinned": entry.pinned,
            }
            for entry in table.entries(now)
        ],
    }


def _direction(direction: TrafficCounters) -> dict[str, Any]:
    return {
        "frames": direction.frames,
        "bytes": direction.bytes,
        "ecn_marks": direction.ecn_marks,
        "drops": {reason: count for reason, count in sorted(direction.drops.items()) if count},
    }


def text_of(status: Mapping[str, Any], user: Callable[[int], str] = str) -> str:
    """A status as a person reads it; no line end at its end.

    Args:
        status: what a vknetd told.
        user: the name of a user by number.
    """
    table = status["table"]
    macs = table["entries"]
    rows = [
        (
            port["name"],
            _duration(port["seconds"]),
            str(port["in"]["frames"]),
            str(port["in"]["bytes"]),
            str(port["out"]["frames"]),
            str(port["out"]["bytes"]),
            _peer(port, user),
        )
        for port in status["ports"]
    ]
    lines = [
        f"{status['socket']}: {status['program']}, {_mode(status)}",
        f"pid {status['pid']}, up {_duration(status['seconds'])}",
        _clients(status),
        _addresses(table),
    ]
    if rows:
        head = ("PORT", "UP", "IN FRAMES", "IN BYTES", "OUT FRAMES", "OUT BYTES", "PEER")
        lines += ["", *_columns(head, rows)]
    drops = [
        f"{port['name']}: {count} {what} dropped: {reason}"
        for port in status["ports"]
        for way, what in (("in", "from it"), ("out", "to it"))
        for reason, count in port[way]["drops"].items()
    ]
    if drops:
        lines += ["", *drops]
    if macs:
        seen = [
            (
                mac["mac"],
                str(mac["vlan"] or "-"),
                mac["port"],
                "own" if mac["pinned"] else _duration(mac["idle"]),
            )
            for mac in macs
        ]
        lines += ["", *_columns(("MAC", "VLAN", "PORT", "SEEN"), seen)]
    return "\n".join(escaped(line, limit=1000) for line in lines)


def _clients(status: Mapping[str, Any]) -> str:
    refused = status["clients_refused"]
    text = f"{status['clients']} of {status['clients_max']} clients"
    return f"{text}, {refused} refused" if refused else text


def _addresses(table: Mapping[str, Any]) -> str:
    text = f"{len(table['entries'])} of {table['limit']} MAC addresses"
    if table["moves"]:
        text += f", {table['moves']} moved"
    if table["evictions"]:
        text += f", {table['evictions']} pushed out"
    if table["forgeries"]:
        text += f", {table['forgeries']} frames with one that is another's own"
    return text


def _peer(port: Mapping[str, Any], user: Callable[[int], str]) -> str:
    if port["kind"] == "tap":
        return f"in {port['bridge']}" if port["bridge"] else ""
    who = [] if port["command"] is None else [port["command"]]
    who += [] if port["pid"] is None else [f"pid {port['pid']}"]
    return ", ".join([*who, f"user {user(port['uid'])}"])


def _mode(status: Mapping[str, Any]) -> str:
    if status["secure"]:
        return f"secure, for {', '.join(status['prefixes'])}"
    return "plain"


def _duration(seconds: float) -> str:
    """Seconds in the two units that matter."""
    whole = math.floor(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def _columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows under a head, each column as wide as its widest; numbers to the right."""
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if name.startswith(("IN ", "OUT ")) else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ).rstrip()
        for row in table
    ]
