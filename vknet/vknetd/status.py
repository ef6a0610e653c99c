"""The status of a vknetd: as JSON for programs, and as text for people.  Pure.

The keys of the JSON object are an interface (docs/vknetd.8).  A later version may add keys, but it
does not remove one or change its meaning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vknet.counters import DropReason
from vknet.errors import escaped
from vknet.packet.ethernet import format_mac

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from vknet.counters import TrafficCounters
    from vknet.switch.guard import Guard
    from vknet.switch.switch import Port
    from vknet.switch.table import MacTable

__all__ = [
    "PORTS_SHOWN_MAX",
    "Peer",
    "outside_status",
    "port_status",
    "table_status",
    "text_of",
]

MINUTE_S: Final = 60
HOUR_S: Final = 60 * MINUTE_S
DAY_S: Final = 24 * HOUR_S

DROP_TEXTS: Final = {reason.value: reason.text for reason in DropReason}

PORTS_SHOWN_MAX: Final = 2048
"""The ports in a status: with them and a full MAC table, it stays below 4 MiB."""

# The longest line of the text.  A longer one does not come from a vknetd.
LINE_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Peer:
    """The interface or the process behind a port.

    Attributes:
        since: when the port appeared, on the daemon's clock, in seconds.
        kind: ``tap`` or ``client``.
        pid, uid, gid: those of a client when it connected (SO_PEERCRED of unix(7)); None for a TAP.
            The pid is also None for a process in a pid namespace that is not visible here.
        command: the name of the client's process when it connected; None if it is unknown.
    """

    since: float
    kind: str
    pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    command: str | None = None


def port_status(
    port: Port, peer: Peer, addresses: int, now: float, *, bridge: str | None = None
) -> dict[str, Any]:
    """Return the status of one port.

    Args:
        port: the port.
        peer: the interface or the process behind it.
        addresses: the number of its addresses in the MAC table.
        now: the time on the daemon's clock, in seconds.
        bridge: the bridge of a TAP; None without one.
    """
    counters = port.snapshot()
    return {
        "name": port.name,
        "kind": peer.kind,
        "bridge": bridge,
        "pid": peer.pid,
        "uid": peer.uid,
        "gid": peer.gid,
        "command": peer.command,
        "seconds": round(now - peer.since, 3),
        "addresses": addresses,
        "waiting_frames": len(port.queue),
        "waiting_bytes": port.queue.backlog_bytes,
        "in": _traffic(counters.inbound),
        "out": _traffic(counters.outbound),
    }


def table_status(table: MacTable[Port], age: float, limit: int, now: float) -> dict[str, Any]:
    """Return the status of the MAC table: pinned addresses first, then the most recently seen.

    Args:
        table: the MAC table.
        age: the lifetime of an entry in seconds.
        limit: the maximum number of entries.
        now: the time on the daemon's clock, in seconds.
    """
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
                "idle": round(entry.idle_s, 3),
                "pinned": entry.pinned,
            }
            for entry in table.entries(now)
        ],
    }


def outside_status(guard: Guard) -> dict[str, Any]:
    """Return how much secure mode remembers of what was seen outside."""
    macs, ipv4, ipv6 = guard.macs, guard.filter.ipv4.seen, guard.filter.ipv6.seen
    return {
        "macs": len(macs),
        "contested": guard.contested,
        "ipv4": len(ipv4),
        "ipv6": len(ipv6),
        "limit": macs.limit,
        "not_remembered": macs.refused + ipv4.refused + ipv6.refused,
    }


def _traffic(counters: TrafficCounters) -> dict[str, Any]:
    drops = sorted(counters.drops.items())
    return {
        "frames": counters.frames,
        "bytes": counters.bytes,
        "ecn_marks": counters.ecn_marks,
        "drops": {reason.value: count for reason, count in drops if count},
    }


def text_of(status: Mapping[str, Any], user: Callable[[int], str] = str) -> str:
    """Return a status as text for people, without a final newline.

    Args:
        status: the status of this daemon, or of another one, possibly of a newer version.
        user: returns the name of a user, by its ID.
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
    if status["outside"] is not None:
        lines.append(_outside(status["outside"]))
    if rows:
        head = ("PORT", "UP", "IN FRAMES", "IN BYTES", "OUT FRAMES", "OUT BYTES", "PEER")
        lines += ["", *_columns(head, rows)]
    drops = [
        f"{port['name']}, {direction}: {count} dropped: {_drop_text(slug)}"
        for port in status["ports"]
        for direction in ("in", "out")
        for slug, count in port[direction]["drops"].items()
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
    return "\n".join(escaped(line, limit=LINE_MAX) for line in lines)


def _drop_text(slug: str) -> str:
    """Return a drop reason with its text.  A reason of a newer vknetd has no text here."""
    text = DROP_TEXTS.get(slug)
    return slug if text is None else f"{slug} ({text})"


def _clients(status: Mapping[str, Any]) -> str:
    refused = status["clients_refused"]
    text = f"{status['clients']} of {status['clients_max']} clients"
    return f"{text}, {refused} refused" if refused else text


def _addresses(table: Mapping[str, Any]) -> str:
    text = f"{len(table['entries'])} of {table['limit']} MAC addresses"
    if table["moves"]:
        text += f", {table['moves']} moved"
    if table["evictions"]:
        text += f", {table['evictions']} evicted"
    if table["forgeries"]:
        text += f", {table['forgeries']} frames with an address of the uplink dropped"
    return text


def _outside(outside: Mapping[str, Any]) -> str:
    text = f"seen outside: {outside['macs']} MAC, {outside['ipv4']} IPv4, {outside['ipv6']} IPv6"
    text += " addresses"
    if outside["contested"]:
        text += f", {outside['contested']} that a client used before"
    return text


def _peer(port: Mapping[str, Any], user: Callable[[int], str]) -> str:
    if port["kind"] == "tap":
        return f"in {port['bridge']}" if port["bridge"] else ""
    parts = [] if port["command"] is None else [port["command"]]
    parts += [] if port["pid"] is None else [f"pid {port['pid']}"]
    parts += [] if port["uid"] is None else [f"user {user(port['uid'])}"]
    return ", ".join(parts)


def _mode(status: Mapping[str, Any]) -> str:
    if status["secure"]:
        return f"secure, for {', '.join(status['prefixes'])}"
    return "plain"


def _duration(seconds: float) -> str:
    """Write a duration in its two largest units."""
    whole = math.floor(seconds)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S} s"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"


def _columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Align rows under a head; columns of numbers, in and out, are right-aligned."""
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if name.startswith(("IN ", "OUT ")) else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ).rstrip()
        for row in table
    ]
