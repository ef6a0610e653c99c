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
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
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
WITHOUT: Final = ("--window", "off")
KINDS: Final[dict[str, tuple[str, ...]]] = {"": (), ", --offload off": ("--offload", "off")}


@dataclass
class Row:
    """One figure, of one kind of link: all values, and the mean logarithm of the ratio by round."""

    with_it: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> str:
        """With how far off it may be, if that can be told."""
        ratio = math.exp(statistics.mean(self.rounds))
        if len(self.rounds) == 1:
            return f"{ratio:.3f}"
        error = 2 * statistics.stdev(self.rounds) / math.sqrt(len(self.rounds))
        return f"{ratio:.3f} ± {ratio * error:.3f}"


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


def compare(bed: Bed, options: tuple[str, ...], rows: dict[str, Row], *, swap: bool) -> None:
    """One round: have two new links take turns, and add to the rows of all figures."""
    starts = [partial(link, bed, 2, options), partial(link, bed, 3, (*WITHOUT, *options))]
    with ExitStack() as stack:
        # Which of them is up first is to make no difference either.
        ways = [stack.enter_context(start()) for start in (starts[::-1] if swap else starts)]
        with_it, without = ways[::-1] if swap else ways
        for title, measure in FIGURES.items():
            row = rows[title]
            for turn in range(TURNS):
                turns = [(with_it, row.with_it), (without, row.without)]
                for to, values in turns[::-1] if turn % 2 else turns:
                    values.append(measure(bed, to))
            pairs = zip(row.with_it[-TURNS:], row.without[-TURNS:], strict=True)
            row.rounds.append(statistics.mean(math.log(one / other) for one, other in pairs))


def main() -> None:
    rounds = rounds_from("bench.window", __doc__, 10)
    done: dict[str, dict[str, Row]] = {kind: defaultdict(Row) for kind in KINDS}
    with measuring_bed() as bed:
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for kind, options in KINDS.items():
                compare(bed, options, done[kind], swap=number % 2 == 1)
    print("| | --window auto | --window off | ratio |")
    print("|---|---|---|---|")
    for kind, rows in done.items():
        for title, row in rows.items():
            medians = [statistics.median(values) for values in (row.with_it, row.without)]
            print(f"| {title}{kind} | {medians[0]:.0f} | {medians[1]:.0f} | {row.ratio} |")


if __name__ == "__main__":
    main()
