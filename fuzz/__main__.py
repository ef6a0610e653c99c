"""``python -m fuzz``: run the fuzzers, or replay an input."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from fuzz.runner import INTERRUPTED, NO_ATHERIS, Result, has_atheris, replay, run, run_all
from fuzz.targets import NAMES

DEFAULT_S: Final = 60.0

EPILOG: Final = """\
An input that fails is kept as .fuzz/TARGET/crash-... (or timeout-..., oom-...).  With files, the
target runs on these alone, which needs no atheris.  Inputs that reach new code are kept in
.fuzz/TARGET/corpus, so that a later run goes on from there.  `make clean` removes them.
"""


def main() -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__, epilog=EPILOG)
    parser.add_argument("target", nargs="?", choices=NAMES, help="what to run")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="an input to replay")
    parser.add_argument("--all", action="store_true", help="run all targets, on all processors")
    parser.add_argument("--seconds", type=float, help="how long, in all (default: 60)")
    parser.add_argument("--runs", type=int, help="the number of inputs, instead of the time")
    options = parser.parse_args()
    if options.all == (options.target is not None):
        parser.error("name one target, or --all")
    if options.files:
        replay(options.target, options.files)
        print(f"{options.target}: {len(options.files)} inputs, nothing found")
        return 0
    if options.all and options.runs is not None:
        parser.error("--all takes --seconds, not --runs")
    if not has_atheris():
        print(NO_ATHERIS, file=sys.stderr)
        return 2
    seconds = options.seconds
    if seconds is None and options.runs is None:
        seconds = DEFAULT_S
    if options.all:
        results = run_all(NAMES, seconds=seconds, jobs=os.cpu_count() or 1)
    else:
        results = [run(options.target, seconds=seconds, runs=options.runs)]
    for result in results:
        show(result)
    return int(any(result.status not in (0, INTERRUPTED) for result in results))


def show(result: Result) -> None:
    print(result)
    if result.status in (0, INTERRUPTED):
        return
    print(result.traceback)
    for path in result.failures:
        print(f"replay it: python -m fuzz {result.target} {path}")


if __name__ == "__main__":
    sys.exit(main())
