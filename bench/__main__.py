"""The grid: every tool in its turn, some rounds; then the page and the JSON (bench.plot plots it).

sudo .venv/bin/python -m bench [--rounds N] [--seconds S] [--only TOOL ...] [--to DIRECTORY]
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import FIGURES, LIMIT
from bench.machine import describe
from bench.measures import Round, measuring_bed, tunnel_round
from bench.page import write_page
from bench.pipe import pipe_round
from bench.report import Run, to_json
from bench.rounds import whole
from bench.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from testbed.hosts import Bed

# For memory, the load lasts so many times as long as a test of throughput: 60 s for 5 s.
LOAD: Final = 12

Measure = dict[str, "Callable[[Bed, int, int], Round]"]


def contestants() -> Measure:
    """What measures each, by name: bed, seconds and load to a round."""
    return {**{tool.name: partial(tunnel_round, tool) for tool in TOOLS}, LIMIT: pipe_round}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(measures: Measure, rounds: int, seconds: int) -> Run:
    """All of it.  Memory is watched in the last round."""
    done: dict[str, list[Round]] = {name: [] for name in measures}
    load = LOAD * seconds
    with measuring_bed() as bed:
        for number in range(rounds):
            for name, measure in measures.items():
                began = time.monotonic()
                result = measure(bed, seconds, load if number == rounds - 1 else 0)
                done[name].append(replace(result, commands=shortened(result.commands, bed)))
                took = time.monotonic() - began
                say(f"round {number + 1} of {rounds}, {name}, {took:.0f} s: {shown(result)}")
    return Run(seconds, load, describe(), done)


def shortened(commands: Sequence[str], bed: Bed) -> list[str]:
    """Commands, each once, without the names of folders and keys that were made for this run."""
    folder = re.compile(rf"{re.escape(str(bed.directory))}/(?:\w+/)?")
    key = re.compile(r"(?:[\dA-F]{2}:){31}[\dA-F]{2}")
    return list(dict.fromkeys(key.sub("KEY", folder.sub("DIR/", command)) for command in commands))


def shown(result: Round) -> str:
    return ", ".join(
        f"{figure.title} {result.figures[figure.key]:.{figure.digits}f}"
        for figure in FIGURES
        if figure.key in result.figures
    )


def main() -> None:
    measures = contestants()
    parser = argparse.ArgumentParser(prog="python -m bench", description="the tools, side by side")
    parser.add_argument("--rounds", type=whole, default=3, help="of which the medians count (3)")
    parser.add_argument("--seconds", type=whole, default=5, help="of each test of throughput (5)")
    parser.add_argument("--only", nargs="+", choices=measures, metavar="TOOL", default=[*measures])
    parser.add_argument("--to", type=Path, default=Path("docs"), help="where the page goes (docs)")
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Everything is ended and tidied up on the way out.
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    result = to_json(run({name: measures[name] for name in args.only}, args.rounds, args.seconds))
    args.to.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    (args.to / "benchmarks.json").write_text(text)
    write_page(args.to)
    say(f"done in {time.monotonic() - began:.0f} s: {args.to}/benchmarks.md")


if __name__ == "__main__":
    main()
