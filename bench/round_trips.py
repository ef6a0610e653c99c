"""The round trip of an idle link, beside `ssh -w` and two bare loops.

    sudo .venv/bin/python -m bench.round_trips [rounds]

The output is a Markdown table.  The bare loops (bench.bare) are the smallest tunnels with vknet's
structure: on each side one Python process between a TAP and the pipes of ssh, without trio and with
it.  The difference between a bare loop and vknet is the share of vknet.
"""

from __future__ import annotations

import statistics
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.measures import PINGS, measuring_bed, percentile, round_trips
from bench.rounds import rounds_from
from bench.tools import DEVICE, Tool, Tunnel, ssh_w, vknet
from testbed.hosts import REPOSITORY
from testbed.program import Program

if TYPE_CHECKING:
    from testbed.hosts import Bed

BARE: Final = (sys.executable, str(REPOSITORY / "bench/bare.py"))


def bare(loop: str, bed: Bed) -> Program:
    command = (*BARE, loop, DEVICE)
    return Program(bed.here, *command, *command)


TOOLS: Final = (
    Tool("ssh -w", ssh_w),
    Tool("a bare loop on epoll", partial(bare, "poll")),
    Tool("a bare loop on trio", partial(bare, "trio")),
    Tool("vknet", vknet()),
)


def main() -> None:
    rounds = rounds_from("bench.round_trips", __doc__, 5)
    medians: dict[str, list[float]] = {tool.name: [] for tool in TOOLS}
    with measuring_bed() as bed:
        for _ in range(rounds):
            for tool in TOOLS:
                with Tunnel(bed, tool):
                    medians[tool.name].append(percentile(round_trips(bed, PINGS), 50))
    base = statistics.median(medians["ssh -w"])
    print("| | p50, ms: min - median - max of the rounds | ratio to `ssh -w` |\n|---|---|---|")
    for name, values in medians.items():
        median = statistics.median(values)
        print(f"| {name} | {min(values):.2f} - {median:.2f} - {max(values):.2f} |", end="")
        print(f" {median / base:.1f} |")


if __name__ == "__main__":
    main()
