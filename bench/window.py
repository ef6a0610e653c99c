"""The cost of the window on a LAN, where it is of no use.

    sudo .venv/bin/python -m bench.window [rounds]

The output is a Markdown table: the medians of all tests with and without the window, and their
ratio.  The ratio is a geometric mean, with two standard errors.

In each round two links are up at the same time, one with the window and one without.  They are
measured in turn for a second each, because the speed of a machine changes from minute to minute;
the first of a pair is the second of the next.  Two equal links still differ by up to 5 %, with the
placement of their processes in memory.  Longer tests do not average that out, but new links do.  So
each round starts new links, and counts as one sample.
"""

from __future__ import annotations

import math
import statistics
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from bench.measures import measuring_bed, tcp, udp_at
from bench.rounds import rounds_from
from testbed.hosts import eventually
from testbed.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testbed.hosts import Bed

TURNS: Final = 3
TEST_S: Final = 1
MEGABIT_BYTES: Final = 1e6 / 8

# Datagrams of 64 bytes per second: more than a link can carry.
FLOOD_RATE: Final = 250e3

# What is measured on a path to an address, by title; the unit is in the title.
FIGURES: Final[dict[str, Callable[[Bed, str], float]]] = {
    "TCP →, Mbit/s": lambda bed, to: tcp(bed, TEST_S, to=to) / TEST_S / MEGABIT_BYTES,
    "TCP ←, Mbit/s": lambda bed, to: tcp(bed, TEST_S, "--reverse", to=to) / TEST_S / MEGABIT_BYTES,
    "TCP ⇄, Mbit/s": lambda bed, to: tcp(bed, TEST_S, "--bidir", to=to) / TEST_S / MEGABIT_BYTES,
    "64-byte UDP, thousands/s": lambda bed, to: udp_at(bed, TEST_S, FLOOD_RATE, to) / 1000,
}
# The options of the two sides, with and without the window; and those of each kind of link.
SIDES: Final = ((), ("--window", "off"))
KINDS: Final[dict[str, tuple[str, ...]]] = {"": (), ", --offload off": ("--offload", "off")}

Values = tuple[list[float], list[float]]
"""The values of one figure, by side, in the order of measurement."""


def ratio(values: Values) -> str:
    """Return the ratio of the two sides, with two standard errors if there are several rounds."""
    logarithms = [math.log(one / other) for one, other in zip(*values, strict=True)]
    firsts = range(0, len(logarithms), TURNS)
    rounds = [statistics.mean(logarithms[first : first + TURNS]) for first in firsts]
    mean = math.exp(statistics.mean(rounds))
    if len(rounds) == 1:
        return f"{mean:.3f}"
    error = 2 * statistics.stdev(rounds) / math.sqrt(len(rounds))
    return f"{mean:.3f} ± {mean * error:.3f}"


@contextmanager
def link(bed: Bed, unit: int, options: tuple[str, ...]) -> Iterator[str]:
    """Run vknet between two TAPs of its own; yield the address of ``there`` on it."""
    device = f"tap{unit}"
    program = Program(bed.here, "vknet", *options, device, f"there:{device}")
    try:
        program.says("link up")
        addresses = [f"198.18.{unit}.{number}" for number in (1, 2)]
        for host, address in zip((bed.here, bed.there), addresses, strict=True):
            host.ip("link", "set", device, "up")
            host.ip("addr", "add", f"{address}/24", "dev", device)
        eventually(lambda: bed.here.reaches(addresses[1]), f"a ping over {device}")
        yield addresses[1]
    finally:
        program.stop()


def compare(bed: Bed, options: tuple[str, ...], done: dict[str, Values], first: int) -> None:
    """Run one round: start two links, and measure them in turn.

    Args:
        bed: the hosts.
        options: of both links.
        done: the values by the title of the figure; the new ones are appended.
        first: the side that starts first and is measured first.  It alternates from round to round.
    """
    order = (first, 1 - first)
    with ExitStack() as stack:
        ways = {
            side: stack.enter_context(link(bed, 2 + side, (*SIDES[side], *options)))
            for side in order
        }
        for title, measure in FIGURES.items():
            for turn in range(TURNS):
                for side in order[::-1] if turn % 2 else order:
                    done[title][side].append(measure(bed, ways[side]))


def main() -> None:
    rounds = rounds_from("bench.window", __doc__, 10)
    done: dict[str, dict[str, Values]] = {
        kind: {title: ([], []) for title in FIGURES} for kind in KINDS
    }
    with measuring_bed() as bed:
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for kind, options in KINDS.items():
                compare(bed, options, done[kind], first=number % 2)
    print("| | --window auto | --window off | ratio |")
    print("|---|---|---|---|")
    for kind, figures in done.items():
        for title, values in figures.items():
            medians = " | ".join(f"{statistics.median(side):.0f}" for side in values)
            print(f"| {title}{kind} | {medians} | {ratio(values)} |")


if __name__ == "__main__":
    main()
