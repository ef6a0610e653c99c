"""Measure every tool in turn, for some rounds; write the JSON and the page.  bench.plot plots it.

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

from bench.figures import FIGURES, SSH_PIPE
from bench.machine import describe
from bench.measures import Round, measuring_bed, tunnel_round
from bench.page import write_page
from bench.pipe import pipe_round
from bench.report import Run, to_json
from bench.rounds import positive_int
from bench.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from testbed.hosts import Bed

# The load for memory lasts this many times as long as a throughput test: 60 s for 5 s.
LOAD_FACTOR: Final = 12

Measures = dict[str, "Callable[[Bed, int, int], Round]"]


def contestants() -> Measures:
    """Return the function that measures each tool, by name.  It takes the bed, seconds and load."""
    return {**{tool.name: partial(tunnel_round, tool) for tool in TOOLS}, SSH_PIPE: pipe_round}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(measures: Measures, rounds: int, seconds: int) -> Run:
    """Run all rounds.  Memory is measured in the last one."""
    done: dict[str, list[Round]] = {name: [] for name in measures}
    load = LOAD_FACTOR * seconds
    with measuring_bed() as bed:
        for number in range(rounds):
            for name, measure in measures.items():
                began = time.monotonic()
                result = measure(bed, seconds, load if number == rounds - 1 else 0)
                done[name].append(replace(result, commands=shortened(result.commands, bed)))
                took = time.monotonic() - began
                say(f"round {number + 1} of {rounds}, {name}, {took:.0f} s: {summary(result)}")
    return Run(seconds, load, describe(), done)


def shortened(commands: Sequence[str], bed: Bed) -> list[str]:
    """Return the commands, each once, without the directories and keys of this run."""
    directory = re.compile(rf"{re.escape(str(bed.directory))}/(?:\w+/)?")
    key = re.compile(r"(?:[\dA-F]{2}:){31}[\dA-F]{2}")
    short = (key.sub("KEY", directory.sub("DIR/", command)) for command in commands)
    return list(dict.fromkeys(short))


def summary(result: Round) -> str:
    return ", ".join(
        f"{figure.title} {result.figures[figure.key]:.{figure.digits}f}"
        for figure in FIGURES
        if figure.key in result.figures
    )


def main() -> None:
    measures = contestants()
    parser = argparse.ArgumentParser(prog="python -m bench", description="tunnels side by side")
    add = parser.add_argument
    add("--rounds", type=positive_int, default=3, help="rounds; their median counts (3)")
    add("--seconds", type=positive_int, default=5, help="duration of a throughput test (5)")
    add("--only", nargs="+", choices=measures, metavar="TOOL", default=[*measures])
    add("--to", type=Path, default=Path("docs"), help="directory of the results (docs)")
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        # SystemExit ends the contexts, which stop every process.
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
