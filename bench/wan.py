"""Long and slow paths: a ping and the goodput under load, through vknet, `ssh -w`, and bare.

sudo .venv/bin/python -m bench.wan [--rounds N] [--seconds S] [--only PATH ...] [--losses SHARE ...]
    [--loads LOAD ...] [--add] [--to DIRECTORY]

With --add its rounds are added to those that stand in the directory: where one path is in question,
it can have more of them.
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
from bench.loads import LOADS, Load, idle_pings, under
from bench.machine import describe
from bench.measures import measuring_bed
from bench.page import write_page
from bench.rounds import whole
from bench.tools import ADDRESSES, Tool, Tunnel, ssh_w, vknet
from testbed.wan import impaired_cable

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.hosts import Bed

LOSSES: Final = (0.0, 0.01)
BARE: Final = "bare path"


# Seconds for a path to become idle again: four megabytes at 1 Mbit/s.
CALM_WITHIN: Final = 40.0

# None is the path itself.
TOOLS: Final = {"vknet": Tool("vknet", vknet()), "ssh -w": Tool("ssh -w", ssh_w), BARE: None}


@dataclass(frozen=True, slots=True)
class WanPath:
    """A path.

    Attributes:
        rate: in Mbit/s.
        round_trip: in milliseconds, half of it each way.
        queue: milliseconds that a frame may wait before the bottleneck, either way.
    """

    rate: float
    round_trip: float
    queue: float = 500.0

    @property
    def name(self) -> str:
        rate = f"{self.rate / 1000:g} Gbit/s" if self.rate >= 1000 else f"{self.rate:g} Mbit/s"
        return f"{rate}, {self.round_trip:g} ms"

    def options(self, loss: float, seed: int) -> list[str]:
        """Those of ``python -m vknet.sim``."""
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
    """Make TCP across the cable, which is that of ssh, use `CONGESTION_CONTROL`."""
    # By the route: which one a namespace may have for all is not ours to say.
    network = ip_network(f"{bed.HERE4}/30", strict=False)
    for host in (bed.here, bed.there):
        host.ip("route", "replace", str(network), "dev", "wan0", "congctl", CONGESTION_CONTROL)


def measure(
    bed: Bed, tool: Tool | None, path: WanPath, loads: list[Load], seconds: float
) -> dict[str, Any]:
    """Some loads through one tool: by load what came of it, and ``idle`` pings."""
    with ExitStack() as stack:
        addresses = (bed.HERE4, bed.THERE4)
        if tool is not None:
            stack.enter_context(Tunnel(bed, tool))
            addresses = ADDRESSES
        # Pings closer than the round trip wait for each other where Nagle's algorithm is on.
        calm = 2.5 * path.round_trip + 20
        done: dict[str, Any] = {"idle": idle_pings(bed, addresses[1], calm)}
        for load in loads:
            try:
                outcome = under(load, bed, addresses, path.rate * 1e6, seconds)
            except AssertionError as exc:
                say(f"    {load.name}: {exc}")
                done[load.name] = None
            else:
                done[load.name] = asdict(outcome)
            try:
                idle_pings(bed, addresses[1], calm, within=CALM_WITHIN)
            except AssertionError as exc:
                # What comes next is then measured on a path that is not idle.
                say(f"    after {load.name}: {exc}")
        return done


def run(
    paths: list[WanPath],
    losses: list[float],
    loads: list[Load],
    rounds: int,
    seconds: float,
    cells: dict[str, Any],
    save: Callable[[dict[str, Any]], None],
) -> None:
    """Measure, and save what there is after each path: it takes long, and may be cut short.

    Args:
        paths: which.
        losses: of each path.
        loads: of each path.
        rounds: how often.
        seconds: that each load is measured.
        cells: what there is already.
        save: what to do with all there is.
    """
    with measuring_bed() as bed:
        for number in range(rounds):
            for path in paths:
                for loss in losses:
                    # What backs off for each loss fills no queue for others.
                    some = [load for load in loads if not (load.beside and loss)]
                    if not some:
                        continue
                    # Other losses than in the rounds that are there.
                    there = [cells.get(cell_name(path.name, loss, load.name), {}) for load in some]
                    seed = max((len(done) for cell in there for done in cell.values()), default=0)
                    with impaired_cable(bed, *path.options(loss, seed)):
                        use_congestion_control(bed)
                        for name, tool in TOOLS.items():
                            began = time.monotonic()
                            done = measure(bed, tool, path, some, seconds)
                            idle = statistics.median(done.pop("idle"))
                            for load, outcome in done.items():
                                cell = cells.setdefault(cell_name(path.name, loss, load), {})
                                cell.setdefault(name, []).append({"idle": idle, "load": outcome})
                            took = time.monotonic() - began
                            say(
                                f"round {number + 1} of {rounds}: {path.name}, loss {loss:g},"
                                f" {name}: {shown(done)} ({took:.0f} s)"
                            )
                    save({"seconds": seconds, "cells": cells, "machine": describe()})


def shown(done: dict[str, Any]) -> str:
    parts = []
    for load, outcome in done.items():
        if outcome is None:
            parts.append(f"{load} failed")
            continue
        times = sorted(ms for _, ms in outcome["pings"]) or [float("inf")]
        goodput = "+".join(f"{each:.2f}" for each in outcome["goodput"])
        parts.append(f"{load} p95 {times[int(0.95 * (len(times) - 1))]:.0f} ms {goodput} Mbit/s")
    return "; ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.wan", description="long, slow paths")
    names = "; ".join(f'"{name}"' for name in PATHS)
    parser.add_argument("--rounds", type=whole, default=3, help="of which the medians count (3)")
    parser.add_argument("--seconds", type=float, default=8, help="that each load is measured (8)")
    parser.add_argument(
        "--only", nargs="+", choices=PATHS, metavar="PATH", default=[*PATHS], help=f"of {names}"
    )
    parser.add_argument(
        "--losses", nargs="+", type=float, default=[*LOSSES], metavar="SHARE", help="0.01 is 1 %%"
    )
    parser.add_argument(
        "--loads", nargs="+", choices=LOADS_BY_NAME, metavar="LOAD", default=[*LOADS_BY_NAME],
        help="of " + "; ".join(f'"{name}"' for name in LOADS_BY_NAME),
    )  # fmt: skip
    parser.add_argument("--add", action="store_true", help="to the rounds that are there")
    parser.add_argument("--to", type=Path, default=Path("docs"), help="where the page goes (docs)")
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Everything is ended and tidied up on the way out.
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
            parser.error(f"the rounds in {there} have --seconds {before['seconds']:g}")
        cells = before["cells"]
    loads = [LOADS_BY_NAME[name] for name in args.loads]
    run(paths, args.losses, loads, args.rounds, args.seconds, cells, save)
    say(f"done in {time.monotonic() - began:.0f} s: {args.to}/benchmarks.md")


if __name__ == "__main__":
    main()
