"""What the window costs where it is of no use: a LAN, with it and without it in turn.

    sudo .venv/bin/python -m bench.window [rounds]

Prints a Markdown table: medians, and the ratio of the two.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from bench.measures import PINGS, measuring_bed, percentile, round_trips, tcp, udp
from bench.rounds import rounds_from
from bench.tools import Tool, Tunnel, vknet

if TYPE_CHECKING:
    from testbed.hosts import Bed

SECONDS: Final = 4.0
TOOLS: Final = (
    Tool("--window auto", vknet()),
    Tool("--window off", vknet("--window", "off")),
    Tool("--window auto --offload off", vknet("--offload", "off")),
    Tool("--window off --offload off", vknet("--window", "off", "--offload", "off")),
)
FIGURES: Final = (
    "TCP →, Mbit/s",
    "TCP ←, Mbit/s",
    "TCP ⇄, Mbit/s",
    "64-byte UDP, thousands/s",
    "idle RTT p50, ms",
)


def measure(bed: Bed) -> list[float]:
    """In the order of `FIGURES`."""
    rtt = percentile(round_trips(bed, PINGS), 50)
    rates = [8e-6 * tcp(bed, SECONDS, *how) / SECONDS for how in ((), ("--reverse",), ("--bidir",))]
    return [*rates, udp(bed, SECONDS) / 1000, rtt]


def main() -> None:
    rounds = rounds_from("bench.window", __doc__, 5)
    done: dict[str, list[list[float]]] = {tool.name: [] for tool in TOOLS}
    with measuring_bed() as bed:
        for _ in range(rounds):
            for tool in TOOLS:
                with Tunnel(bed, tool):
                    done[tool.name].append(measure(bed))
    medians = [[statistics.median(each) for each in zip(*of, strict=True)] for of in done.values()]
    print("| | " + " | ".join(tool.name for tool in TOOLS) + " | ratio | without offload |")
    print("|---" * (len(TOOLS) + 3) + "|")
    for number, figure in enumerate(FIGURES):
        values = [of[number] for of in medians]
        ratios = (values[0] / values[1], values[2] / values[3])
        cells = [f"{value:.2f}" for value in (*values, *ratios)]
        print(f"| {figure} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
