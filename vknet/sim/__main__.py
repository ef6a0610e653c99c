"""Joins two TAPs by an impaired wire.

    python -m vknet.sim --rate 10mbit --delay 15ms --limit 500ms wan0 wan1

Options are for both directions; with ``--back-`` in front, for the one from the second TAP to the
first.  Made TAPs go with the program; moved to another namespace, they stay joined::

    ip link set wan0 netns here; ip link set wan1 netns there

It says on stderr when they are joined, and at its end what it carried.
"""

from __future__ import annotations

import argparse
import fcntl
import re
import signal
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

import trio

from vknet.endpoints import open_endpoint
from vknet.errors import UsageError, VknetError
from vknet.exit_codes import EXIT_FAILED, EXIT_STOPPED, EXIT_USAGE
from vknet.sim.cable import Cable
from vknet.sim.path import Path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from vknet.sim.path import Impairment

__all__ = ["main", "parse_arguments"]

# linux/sockios.h
SIOCSIFTXQLEN: Final = 0x8943
IFREQ: Final = struct.Struct("16si20x")

# Frames that wait in a TAP while this program is not running: a tenth of a second at 1 Gbit/s.
# They are dropped beyond that without being counted, so it is far more than is ever needed.
TX_QUEUE: Final = 10_000

NUMBER: Final = re.compile(r"(\d+(?:\.\d+)?)([a-z%]*)")
TIMES: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
RATES: Final = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
SIZES: Final = {"b": 1.0, "kb": 1024.0, "mb": 1024.0 * 1024.0}
SHARES: Final = {"%": 0.01}


def quantity(*units: dict[str, float]) -> Callable[[str], tuple[str, float]]:
    """A parser for a number with one of these units, as tc writes them."""

    def parse(text: str) -> tuple[str, float]:
        match = NUMBER.fullmatch(text)
        for known in units:
            if match and match[2] in known:
                return match[2], float(match[1]) * known[match[2]]
        wanted = ", ".join(unit for known in units for unit in known)
        raise argparse.ArgumentTypeError(f"{text!r} is not a number with a unit ({wanted})")

    return parse


OPTIONS: Final = (
    ("delay", quantity(TIMES), "TIME", "delay every frame, so twice in a round trip: 50ms"),
    ("jitter", quantity(TIMES), "TIME", "delay by so much more or less: 5ms"),
    ("rate", quantity(RATES), "RATE", "carry so many bits a second: 100mbit"),
    ("limit", quantity(TIMES, SIZES), "TIME|SIZE", "let so much wait for the rate: 500ms, 64kb"),
    ("loss", quantity(SHARES), "SHARE", "lose so many: 1%%"),
    ("reorder", quantity(SHARES), "SHARE", "let so many overtake what is delayed: 1%%"),
)


def parse_arguments(argv: Sequence[str]) -> tuple[Path, Path, int, tuple[str, str]]:
    """There, back, the seed, and the two TAPs.

    Raises:
        SystemExit: argparse found them wrong, and said so.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vknet.sim",
        description="Joins two TAPs by an impaired wire, until Ctrl-C. Each option is for both"
        " directions; with --back- before it (--back-delay and so on, not --back-seed) it is for"
        " the one from the second TAP to the first. A TIME is a number with us, ms or s; a RATE"
        " one with bit, kbit, mbit or gbit; a SIZE one with b, kb or mb; a SHARE one with %.",
        epilog="Needs root. A TAP is the name of an interface; it may then be put into a network"
        " namespace: ip link set TAP netns NAME.",
        allow_abbrev=False,
    )
    for name, parse, metavar, text in OPTIONS:
        parser.add_argument(f"--{name}", type=parse, metavar=metavar, help=text)
        parser.add_argument(f"--back-{name}", type=parse, metavar=metavar, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("taps", nargs=2, metavar="TAP", help="made if there is none")
    found = vars(parser.parse_args(argv))
    if found["taps"][0] == found["taps"][1]:
        parser.error(f"both ends are {found['taps'][0]}: name two TAPs")
    there = {name: found[name] for name, *_ in OPTIONS if found[name] is not None}
    back = there | {
        name: found[f"back_{name}"] for name, *_ in OPTIONS if found[f"back_{name}"] is not None
    }
    try:
        return _path(there), _path(back), found["seed"], tuple(found["taps"])
    except ValueError as exc:
        parser.error(str(exc))


def _path(found: dict[str, tuple[str, float]]) -> Path:
    values: dict[str, Any] = {name: value for name, (_, value) in found.items()}
    if "limit" in found:
        unit, value = found["limit"]
        del values["limit"]
        if unit in TIMES:
            values["latency"] = value
        else:
            values["limit"] = int(value)
    return Path(**values)


def _lengthen_queue(tap: str) -> None:
    with socket.socket() as sock:
        fcntl.ioctl(sock, SIOCSIFTXQLEN, IFREQ.pack(tap.encode(), TX_QUEUE))


def _summary(name: str, impairment: Impairment) -> str:
    counts = impairment.counts
    drops = "".join(f", {n} dropped ({why})" for why, n in sorted(counts.drops.items()))
    return f"{name}: {counts.frames} frames, {counts.bytes} bytes{drops}"


async def _cancel_at(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()


async def _run(there: Path, back: Path, seed: int, taps: tuple[str, str]) -> None:
    async with (
        await open_endpoint(f"tap:{taps[0]}") as a,
        await open_endpoint(f"tap:{taps[1]}") as b,
    ):
        for tap in (a, b):
            _lengthen_queue(tap.name)
        wire = Cable(a, b, there=there, back=back, seed=seed)
        failed: VknetError | None = None
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_at, signals, nursery.cancel_scope)
                print(f"joined {a.name} and {b.name}", file=sys.stderr, flush=True)
                try:
                    await wire.run()
                except VknetError as exc:
                    failed = exc
                    nursery.cancel_scope.cancel()
        print(_summary(f"{a.name} to {b.name}", wire.there), file=sys.stderr)
        print(_summary(f"{b.name} to {a.name}", wire.back), file=sys.stderr)
        if failed is not None:
            raise failed


def main(argv: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    there, back, seed, taps = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        trio.run(_run, there, back, seed, taps)
    except VknetError as exc:
        print(f"vknet.sim: {exc}", file=sys.stderr)
        return EXIT_USAGE if isinstance(exc, UsageError) else EXIT_FAILED
    return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
