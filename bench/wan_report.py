"""The result of a run on long and slow paths, as the second part of the page.  No I/O."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

from bench.loads import DATAGRAM_BYTES, MAX_RATE, PORT, WARM_UP_S, ping_command
from bench.measures import percentile
from bench.report import NOT_MEASURED, table
from bench.tools import ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["jain", "wan_to_markdown"]

# The options of one path, as an example.  A frame may wait for 500 ms before the bottleneck.
PATH: Final = "--rate=10mbit --delay=15ms --limit=500ms --seed=0 --loss=1%"

PART: Final = """\
# Long and slow paths

This command measures every row of this part of the page. It writes the page, `benchmarks-wan.json`
(with every ping) and the plot:

    sudo make bench-wan

One row alone, with `--add` in addition to the rounds that the JSON already has:

    sudo .venv/bin/python -m bench.wan --only "10 Mbit/s, 30 ms" --losses 0.01 --loads "8 TCP" \\
        --seconds {seconds:g} --rounds 1 --add

A row names the path (`--only`), the loss (`--losses`, a share: 0.01 is 1 %) and the load
(`--loads`). The columns are vknet, `ssh -w` and the bare path without a tunnel. They are measured
in turn, in {rounds}.

![round trips over time, and their distribution](benchmarks-wan.png)

{table}

- RTT: p50 of an idle path, then p50 and **p95** under the load, in ms, and the share of lost pings.
- Goodput: received payload in Mbit/s, for each loaded direction; with several flows also Jain's
  fairness index of the flows from `here` to `there`.
- "Beside a bare one": one more TCP flow crosses the path without the tunnel; its goodput is the
  second one. This load takes three times as long, and runs only on paths without loss.

## How each figure is measured there

| figure | command |
| --- | --- |
| path "10 Mbit/s, 30 ms; 1 % loss" | `python -m vknet.sim {path} wan0 wan1` as the cable |
| vknet | `vknet tap0 there:tap0` |
| ssh -w | `ssh -NT -o Tunnel=ethernet -w 0:0 there` |
| RTT | `{ping}` on `here`, {warm_up:g} s after the start of the load |
| goodput of TCP | `{receive_tcp}` on `there`, `{send_tcp}` on `here` |
| goodput of UDP | `{receive_udp}` on `there`, `{send_udp}` on `here` |

- N is the number of TCP flows. RATE is twice the rate of the path in datagrams per second, at most
  {max_rate:.0f}. `{there}` is the address of `there` in the tunnel; on the bare path it is
  `198.18.0.2`.
- TCP is CUBIC everywhere: in the tunnel, and in the connection of ssh.
- `ssh -w` leaves Nagle's algorithm on. Its idle pings wait for each other if the round trip of the
  path is near the 50 ms between two pings, or above.
- `vknet.sim` uses a large part of the two CPUs of this machine at 100 Mbit/s, and one whole CPU at
  1 Gbit/s. The tunnel gets the rest.
"""


def wan_to_markdown(result: Mapping[str, Any]) -> str:
    """Write the part of the page from the JSON of `bench.wan`."""
    names = list(dict.fromkeys(name for tools in result["cells"].values() for name in tools))
    head = ["path; loss; load"]
    for name in names:
        head += [f"{name}: RTT", "goodput"]
    rows = []
    for cell, tools in result["cells"].items():
        row = [cell]
        for name in names:
            row += _summary(tools[name]) if name in tools else (NOT_MEASURED, NOT_MEASURED)
        rows.append(row)
    counts = {len(rounds) for tools in result["cells"].values() for rounds in tools.values()}
    fewest, most = min(counts), max(counts)
    if most == 1:
        rounds = "one round"
    else:
        number = f"{most}" if fewest == most else f"{fewest} to {most}"
        rounds = f"{number} rounds; the figures are medians"
    seconds = result["seconds"]
    there = ADDRESSES[1]
    flows, datagrams = "python bench/flows.py", "python bench/datagrams.py"
    return PART.format(
        seconds=seconds,
        rounds=rounds,
        table=table(head, rows),
        path=PATH,
        ping=" ".join(ping_command(there, seconds)),
        warm_up=WARM_UP_S,
        receive_tcp=f"{flows} receive {there} {PORT} N {WARM_UP_S:g} {seconds:g}",
        send_tcp=f"{flows} send {there} {PORT} N",
        receive_udp=f"{datagrams} receive {there} {seconds:g} {WARM_UP_S:g}",
        send_udp=f"{datagrams} send {there} {2 * (WARM_UP_S + seconds):g} RATE {DATAGRAM_BYTES}",
        max_rate=MAX_RATE,
        there=there,
    )


def _summary(rounds: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the round trips and the goodput of one tool in one cell."""
    loads = [done["load"] for done in rounds if done["load"] is not None]
    if not loads:
        return "failed", NOT_MEASURED
    idle = statistics.median(done["idle"] for done in rounds)
    times = [[ms for _, ms in load["pings"]] for load in loads]
    if not all(times):
        return f"{idle:.0f}, none answered", NOT_MEASURED
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
    """Return Jain's fairness index: 1 if all values are equal, 1/n if one flow has everything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0
