"""Long and slow paths: pings and goodput under load, through vknet, `ssh -w` and without a tunnel.

sudo .venv/bin/python -m bench.wan [--rounds N] [--seconds S] [--only PATH ...] [--losses SHARE ...]
    [--loads LOAD ...] [--tools TOOL ...] [--add] [--to DIRECTORY]

With --add, the rounds are added to those in the directory; so a single path can have more rounds.
`vknet, wire v1` is measured only if --tools names it.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.flows import CONGESTION_CONTROL
from bench.loads import LOADS, Load, idle_pings, run_load
from bench.machine import describe
from bench.measures import measuring_bed
from bench.page import write_page
from bench.rounds import positive_int
from bench.tools import ADDRESSES, Tool, Tunnel, ssh_w, vknet
from testbed.wan import impaired_cable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from testbed.hosts import Bed

LOSSES: Final = (0.0, 0.01)
BARE: Final = "bare path"

# The time limit for a path to become idle again: four megabytes at 1 Mbit/s take 32 s.
IDLE_TIMEOUT_S: Final = 40.0

# None is the path itself.
TOOLS: Final = {
    "vknet": Tool("vknet", vknet()),
    "ssh -w": Tool("ssh -w", ssh_w),
    BARE: None,
    "vknet, wire v1": Tool("vknet, wire v1", vknet("--wire", "1")),
}
DEFAULT_TOOLS: Final = ("vknet", "ssh -w", BARE)


@dataclass(frozen=True, slots=True)
class WanPath:
    """A path.

    Attributes:
        rate: in Mbit/s.
        round_trip: in ms; the delay of each direction is half of it.
        queue: the longest time that a frame may wait before the bottleneck, in ms.
    """

    rate: float
    round_trip: float
    queue: float = 500.0

    @property
    def name(self) -> str:
        rate = f"{self.rate / 1000:g} Gbit/s" if self.rate >= 1000 else f"{self.rate:g} Mbit/s"
        return f"{rate}, {self.round_trip:g} ms"

    def options(self, loss: float, seed: int) -> list[str]:
        """Return the options of ``python -m vknet.sim``."""
        words = [f"--rate={self.rate:g}mbit", f"--delay={self.round_trip / 2:g}ms"]
        words += [f"--limit={self.queue:g}ms", f"--seed={seed}"]
        return words + ([f"--loss={100 * loss:g}%"] if loss else [])


LOADS_BY_NAME: Final = {load.name: load for load in LOADS}

PATHS: Final = {
    path.name: path
    for path in (WanPath(2, 20), WanPath(10, 30), WanPath(100, 100), WanPath(1000, 1))
}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cell_name(path: str, loss: float, load: str) -> str:
    return f"{path}; {100 * loss:g} % loss; {load}"


def use_congestion_control(bed: Bed) -> None:
    """Make TCP across the cable, which includes that of ssh, use `CONGESTION_CONTROL`."""
    # A route names it: only the initial namespace may make any algorithm its default
    # (net/ipv4/tcp_cong.c, tcp_set_default_congestion_control).
    network = ip_network(f"{bed.HERE4}/30", strict=False)
    for host in (bed.here, bed.there):
        host.ip("route", "replace", str(network), "dev", "wan0", "congctl", CONGESTION_CONTROL)


def measure(
    bed: Bed, tool: Tool | None, path: WanPath, loads: list[Load], seconds: float
) -> dict[str, Any]:
    """Run loads through one tool; return the outcome by load, and the ``idle`` pings."""
    with ExitStack() as stack:
        addresses = (bed.HERE4, bed.THERE4)
        if tool is not None:
            stack.enter_context(Tunnel(bed, tool))
            addresses = ADDRESSES
        # The limit allows for Nagle's algorithm, which makes pings wait for each other.
        idle_below = 2.5 * path.round_trip + 20
        done: dict[str, Any] = {"idle": idle_pings(bed, addresses[1], idle_below)}
        for load in loads:
            try:
                outcome = run_load(load, bed, addresses, path.rate * 1e6, seconds)
            except AssertionError as exc:
                say(f"    {load.name}: {exc}")
                done[load.name] = None
            else:
                done[load.name] = asdict(outcome)
            try:
                idle_pings(bed, addresses[1], idle_below, within=IDLE_TIMEOUT_S)
            except AssertionError as exc:
                # The next load then starts on a path that is not idle.
                say(f"    after {load.name}: {exc}")
        return done


def run(
    paths: list[WanPath],
    losses: list[float],
    loads: list[Load],
    tools: list[str],
    rounds: int,
    seconds: float,
    cells: dict[str, Any],
    save: Callable[[dict[str, Any]], None],
) -> None:
    """Measure; save after each path, because a run takes long and may be interrupted.

    Args:
        paths: the paths.
        losses: of each path.
        loads: of each path.
        tools: names of `TOOLS`.
        rounds: number of rounds.
        seconds: duration of each measurement.
        cells: earlier results; the new ones are added.
        save: stores all results.
    """
    with measuring_bed() as bed:
        for number in range(rounds):
            for path in paths:
                for loss in losses:
                    # On a lossy path the flow beside the tunnel backs off, and fills no queue.
                    some = [load for load in loads if not (load.beside and loss)]
                    if not some:
                        continue
                    # Another seed than in earlier rounds.
                    there = [cells.get(cell_name(path.name, loss, load.name), {}) for load in some]
                    seed = max((len(done) for cell in there for done in cell.values()), default=0)
                    with impaired_cable(bed, *path.options(loss, seed)):
                        use_congestion_control(bed)
                        for name in tools:
                            began = time.monotonic()
                            done = measure(bed, TOOLS[name], path, some, seconds)
                            idle = statistics.median(done.pop("idle"))
                            for load, outcome in done.items():
                                cell = cells.setdefault(cell_name(path.name, loss, load), {})
                                cell.setdefault(name, []).append({"idle": idle, "load": outcome})
                            took = time.monotonic() - began
                            say(
                                f"round {number + 1} of {rounds}: {path.name}, loss {loss:g},"
                                f" {name}: {summary(done)} ({took:.0f} s)"
                            )
                    save({"seconds": seconds, "cells": cells, "machine": describe()})


def summary(done: dict[str, Any]) -> str:
    parts = []
    for load, outcome in done.items():
        if outcome is None:
            parts.append(f"{load} failed")
            continue
        times = sorted(ms for _, ms in outcome["pings"]) or [float("inf")]
        goodput = "+".join(f"{each:.2f}" for each in outcome["goodput"])
        parts.append(f"{load} p95 {times[int(0.95 * (len(times) - 1))]:.0f} ms {goodput} Mbit/s")
    return "; ".join(parts)


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.wan", description="tunnels on long and slow paths"
    )
    add = parser.add_argument
    add("--rounds", type=positive_int, default=3, help="rounds; their median counts (3)")
    add("--seconds", type=float, default=8, help="duration of each load (8)")
    add("--only", nargs="+", choices=PATHS, metavar="PATH", default=[*PATHS], help=quoted(PATHS))
    add(
        "--losses",
        nargs="+",
        type=float,
        metavar="SHARE",
        default=[*LOSSES],
        help="losses of each path; 0.01 is 1 %%",
    )
    add(
        "--loads",
        nargs="+",
        choices=LOADS_BY_NAME,
        metavar="LOAD",
        default=[*LOADS_BY_NAME],
        help=quoted(LOADS_BY_NAME),
    )
    add(
        "--tools",
        nargs="+",
        choices=TOOLS,
        metavar="TOOL",
        default=[*DEFAULT_TOOLS],
        help=f"{quoted(TOOLS)} (default: {quoted(DEFAULT_TOOLS)})",
    )
    add("--add", action="store_true", help="add to the rounds in the directory")
    add("--to", type=Path, default=Path("docs"), help="directory of the results (docs)")
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        # SystemExit ends the contexts, which stop every process.
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    paths = [PATHS[name] for name in args.only]
    args.to.mkdir(parents=True, exist_ok=True)

    def save(result: dict[str, Any]) -> None:
        text = json.dumps(result, separators=(",", ":"), ensure_ascii=False) + "\n"
        (args.to / "benchmarks-wan.json").write_text(text)
        write_page(args.to)

    there = args.to / "benchmarks-wan.json"
    cells = {}
    if args.add and there.exists():
        before = json.loads(there.read_text())
        if before["seconds"] != args.seconds:
            parser.error(f"{there} has --seconds {before['seconds']:g}; give the same")
        cells = before["cells"]
    loads = [LOADS_BY_NAME[name] for name in args.loads]
    run(paths, args.losses, loads, args.tools, args.rounds, args.seconds, cells, save)
    say(f"done in {time.monotonic() - began:.0f} s: {args.to}/benchmarks.md")


if __name__ == "__main__":
    main()
