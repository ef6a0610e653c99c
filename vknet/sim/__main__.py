"""Join two TAP interfaces by a simulated cable.

    python -m vknet.sim --rate 10mbit --delay 15ms --limit 500ms wan0 wan1

An option applies to both directions.  With ``--back-`` in front it applies only to the direction
from the second TAP to the first.  A TAP that this program creates is removed when it ends.  A TAP
that is moved to another network namespace stays joined::

    ip link set wan0 netns here; ip link set wan1 netns there

The program reports on stderr when the TAPs are joined, and at the end how many frames it carried
and dropped.
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

# The queue of a TAP, which holds frames while this program is not scheduled: 0.1 s at 1 Gbit/s.
# The kernel drops what does not fit, and those drops are not in this program's counts.
TX_QUEUE_FRAMES: Final = 10_000

NUMBER: Final = re.compile(r"(\d+(?:\.\d+)?)([a-z%]*)")

# The units of tc(8), with their values in seconds, bits per second, bytes and fractions.
TIME_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
RATE_UNITS: Final = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
SIZE_UNITS: Final = {"b": 1.0, "kb": 1024.0, "mb": 1024.0 * 1024.0}
PERCENT: Final = {"%": 0.01}


def quantity(*unit_sets: dict[str, float]) -> Callable[[str], tuple[str, float]]:
    """Return a parser for a number with one of these units; it returns the unit and the value."""

    def parse(text: str) -> tuple[str, float]:
        match = NUMBER.fullmatch(text)
        for units in unit_sets:
            if match and match[2] in units:
                return match[2], float(match[1]) * units[match[2]]
        names = ", ".join(unit for units in unit_sets for unit in units)
        raise argparse.ArgumentTypeError(f"{text!r} is not a number with a unit ({names})")

    return parse


OPTIONS: Final = (
    ("delay", quantity(TIME_UNITS), "TIME", "one-way delay of each frame: 50ms"),
    ("jitter", quantity(TIME_UNITS), "TIME", "maximum deviation from the delay: 5ms"),
    ("rate", quantity(RATE_UNITS), "RATE", "maximum rate in bits per second: 100mbit"),
    ("limit", quantity(TIME_UNITS, SIZE_UNITS), "TIME|SIZE", "queue at the rate: 500ms, 64kb"),
    ("loss", quantity(PERCENT), "PERCENT", "frames that are lost: 1%%"),
    ("reorder", quantity(PERCENT), "PERCENT", "frames that are not delayed, and overtake: 1%%"),
)


def parse_arguments(argv: Sequence[str]) -> tuple[Path, Path, int, tuple[str, str]]:
    """Parse the command line.

    Returns:
        The path from the first TAP to the second, the path back, the seed, and the two TAPs.

    Raises:
        SystemExit: an argument is wrong; argparse has printed why.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vknet.sim",
        description="Join two TAP interfaces by a simulated cable, until Ctrl-C. An option applies"
        " to both directions. With --back- in front (--back-delay and so on, not --back-seed) it"
        " applies only to the direction from the second TAP to the first. A TIME is a number with"
        " us, ms or s; a RATE has bit, kbit, mbit or gbit; a SIZE has b, kb or mb; a PERCENT has"
        " %.",
        epilog="Needs root. TAP is the name of an interface, which may be moved to another network"
        " namespace afterwards: ip link set TAP netns NAME.",
        allow_abbrev=False,
    )
    for name, parse, metavar, text in OPTIONS:
        parser.add_argument(f"--{name}", type=parse, metavar=metavar, help=text)
        parser.add_argument(f"--back-{name}", type=parse, metavar=metavar, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help="seed of all random decisions (0)")
    parser.add_argument("taps", nargs=2, metavar="TAP", help="created if it does not exist")
    found = vars(parser.parse_args(argv))
    if found["taps"][0] == found["taps"][1]:
        parser.error(f"both ends are {found['taps'][0]}; name two TAPs")
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
        if unit in TIME_UNITS:
            values["latency"] = value
        else:
            values["limit"] = int(value)
    return Path(**values)


def _lengthen_queue(tap: str) -> None:
    with socket.socket() as sock:
        fcntl.ioctl(sock, SIOCSIFTXQLEN, IFREQ.pack(tap.encode(), TX_QUEUE_FRAMES))


def _summary(name: str, impairment: Impairment) -> str:
    counts = impairment.counts
    drops = "".join(
        f", {count} dropped ({reason})" for reason, count in sorted(counts.drops.items())
    )
    return f"{name}: {counts.frames} frames, {counts.bytes} bytes{drops}"


async def _cancel_on(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()


async def _run(there: Path, back: Path, seed: int, taps: tuple[str, str]) -> None:
    async with (
        await open_endpoint(f"tap:{taps[0]}") as a,
        await open_endpoint(f"tap:{taps[1]}") as b,
    ):
        for tap in (a, b):
            _lengthen_queue(tap.name)
        cable = Cable(a, b, there=there, back=back, seed=seed)
        failure: VknetError | None = None
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on, signals, nursery.cancel_scope)
                print(f"joined {a.name} and {b.name}", file=sys.stderr, flush=True)
                try:
                    await cable.run()
                except VknetError as exc:
                    failure = exc
                    nursery.cancel_scope.cancel()
        print(_summary(f"{a.name} to {b.name}", cable.there), file=sys.stderr)
        print(_summary(f"{b.name} to {a.name}", cable.back), file=sys.stderr)
        if failure is not None:
            raise failure


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program, and return its exit status."""
    there, back, seed, taps = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        trio.run(_run, there, back, seed, taps)
    except VknetError as exc:
        print(f"vknet.sim: {exc}", file=sys.stderr)
        return EXIT_USAGE if isinstance(exc, UsageError) else EXIT_FAILED
    return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
