"""What the window costs where it is of no use: a LAN, with it and without it in turn.

    sudo .venv/bin/python -m bench.window [rounds]

Prints a Markdown table: medians of all tests, and the ratio with the window to without it: its
geometric mean, and how far off that may be (two standard errors).

In each round two links are up beside each other, one with the window and one without, and take
turns of a second, now one first and now the other: this machine's own pace changes from one minute
to the next.  But one link differs from its neighbour by 5 % without any cause, where its processes
happen to lie in memory, and longer tests do not help against that.  New links do: what counts as
one sample is a round.
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
SECONDS: Final = 1
MEGABIT: Final = 1e6 / 8

# Datagrams of 64 bytes a second: somewhat more than can be carried.
FLOOD: Final = 250e3

# Of each: what is measured of a path to this address, in what its title says.
FIGURES: Final[dict[str, Callable[[Bed, str], float]]] = {
    "TCP →, Mbit/s": lambda bed, to: tcp(bed, SECONDS, to=to) / SECONDS / MEGABIT,
    "TCP ←, Mbit/s": lambda bed, to: tcp(bed, SECONDS, "--reverse", to=to) / SECONDS / MEGABIT,
    "TCP ⇄, Mbit/s": lambda bed, to: tcp(bed, SECONDS, "--bidir", to=to) / SECONDS / MEGABIT,
    "64-byte UDP, thousands/s": lambda bed, to: udp_at(bed, SECONDS, FLOOD, to) / 1000,
}
# With the window, and without it; and that of two kinds of links.
SIDES: Final = ((), ("--window", "off"))
KINDS: Final[dict[str, tuple[str, ...]]] = {"": (), ", --offload off": ("--offload", "off")}

Values = tuple[list[float], list[float]]
"""Of one figure, by side, in the order of their turns."""


def ratio(values: Values) -> str:
    """With how far off it may be, if that can be told."""
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
    """A vknet between two TAPs of its own; the address of ``there`` on it."""
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
    """One round: have two new links take turns, and add to the values of all figures.

    Args:
        bed: the hosts.
        options: of both links.
        done: by the title of the figure.
        first: the side that is up first, and begins: that is to make no difference either.
    """
    order = (first, 1 - first)
    with ExitStack() as stack:
        ways = {
            side: stack.enter_context(link(bed, 2 + side, (*SIDES[side], *options)))
            for side in order
        }
        for title, measure in FIGURES.items():
            for next_writes in range(TURNS):
                for side in order[::-1] if next_writes % 2 else order:
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
    for kind, of in done.items():
        for title, values in of.items():
            medians = " | ".join(f"{statistics.median(side):.0f}" for side in values)
            print(f"| {title}{kind} | {medians} | {ratio(values)} |")


if __name__ == "__main__":
    main()
