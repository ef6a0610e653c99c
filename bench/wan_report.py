"""What comes of a run over long and slow paths, as the second part of the page.  Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

from bench.measures import percentile
from bench.report import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["jain", "wan_to_markdown"]

PART: Final = """\
# Long and slow paths

`make bench-wan` made this part, `benchmarks-wan.json` (every ping of it) and the plot. The two
hosts are joined by `python -m vknet.sim`, which limits, delays and loses as the rows say; a frame
may wait for 500 ms before the bottleneck. Pings go through what is measured every 50 ms for
{seconds:g} s, beginning when the load has run for a few seconds. The three had their turns one
after the other, in {rounds}.

![round trips over time, and their distribution](benchmarks-wan.png)

{table}

- RTT: idle p50, then p50 and p95 under the load, in ms; the share of lost pings if there were any.
- Goodput: Mbit/s of payload, in each direction that is loaded; for several flows Jain's index of
  fairness among those from here to there.
- The bare TCP of the last load crosses the path beside what is measured, on none but the path
  without loss; its goodput is the second one. Both run for three times as long.
- UDP is sent at twice the rate of the path, in datagrams of 1200 bytes.
- TCP is CUBIC everywhere, that of ssh and that through it.
- The idle pings of `ssh -w`, which leaves Nagle's algorithm on, wait for each other where the path
  is longer than the 50 ms between them, or nearly so.
- From 100 Mbit/s on the program that is the path takes a good part of this machine's two CPUs, at
  1 Gbit/s a whole one; what is measured has to do with the rest.
"""


def wan_to_markdown(result: Mapping[str, Any]) -> str:
    """The part of the page, of what `bench.wan` wrote."""
    names = list(next(iter(result["cells"].values())))
    head = ["path; loss; load"]
    for name in names:
        head += [f"{name}: RTT", "goodput"]
    rows = []
    for cell, tools in result["cells"].items():
        row = [cell]
        for name in names:
            row += _summary(tools[name])
        rows.append(row)
    counts = {len(rounds) for tools in result["cells"].values() for rounds in tools.values()}
    least, most = min(counts), max(counts)
    said = "one round" if most == 1 else f"{most} rounds, of which these are the medians"
    if least < most:
        said = f"{least} to {most} rounds, of which these are the medians"
    return PART.format(seconds=result["seconds"], rounds=said, table=table(head, rows))


def _summary(rounds: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Of one tool in one cell: round trips, and goodput."""
    loads = [done["load"] for done in rounds if done["load"] is not None]
    if not loads:
        return "failed", "-"
    idle = statistics.median(done["idle"] for done in rounds)
    times = [[ms for _, ms in load["pings"]] for load in loads]
    if not all(times):
        return f"{idle:.0f}, none came back", "-"
    p50, p95 = (statistics.median(percentile(each, n) for each in times) for n in (50, 95))
    lost = sum(load["lost"] for load in loads)
    sent = lost + sum(map(len, times))
    share = f" ({100 * lost / sent:.1f} % lost)" if lost else ""
    ways = zip(*(load["goodput"] for load in loads), strict=True)
    goodput = " + ".join(f"{statistics.median(way):.2f}" for way in ways)
    if len(loads[0]["flows"]) > 1:
        fairness = statistics.median(jain(load["flows"]) for load in loads)
        goodput += f", {fairness:.2f}"
    return f"{idle:.0f}, {p50:.0f}, **{p95:.0f}**{share}", goodput


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 if all are equal, 1/n if one has all."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0
