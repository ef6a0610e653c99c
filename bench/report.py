"""What comes of a run: medians and ratios, as a page in Markdown and as JSON.  Pure.

The JSON holds every round, and the page is made of nothing else; so is the plot.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.figures import BASELINE, FIGURES, LIMIT, Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.measures import Round

__all__ = ["Run", "table", "to_json", "to_markdown"]

NONE: Final = "-"
NOTHING: Final[dict[str, Any]] = {"medians": {}}

PAGE: Final = """\
# Benchmarks

`make bench` made this page, `benchmarks.json` (every round of it) and the plot. The tools run side
by side on one machine: two network namespaces with a wire between them, a real sshd. What is
absolute here depends on that machine; the ratios travel.

![the medians, with the span of the rounds](benchmarks.png)

## Medians

Of {rounds} rounds.

{medians}

## Against `ssh -w`

So many times what `ssh -w` has, in the same run: above 1 is better for what is carried, below 1 for
RTT and CPU. The last two columns: TCP as a part of what the plain ssh pipe carries.

{ratios}

## Memory under load

Resident memory in MB, of all processes of the tool on a side, at its peak in {load:g} s of TCP both
ways; growth is the mean of the last fifth of that time less the mean of the second.

{memory}

## What is measured

In each round the tools have their turns one after the other, each is started anew for its turn, and
has all of it to itself.

- TCP: one stream of iperf3 for {seconds:g} s there (→), back (←), and both at once (⇄);
  what arrived.
- UDP: datagrams of 64 bytes, sent there at rates from 30 000 a second on, each a fifth above the
  one before, until less arrives; the most that arrived in a second at one of them.
- Idle RTT: pings 50 ms apart. Closer ones are slower with `ssh -w`, which leaves Nagle's
  algorithm on.
- CPU: user and system time of all processes of the tool on both sides, over the two TCP tests of
  one direction each, by the GB that arrived.
- First ping: from the command to a ping that came back, the address being put on the interface
  from outside as soon as it is there; and how much longer that is than `ssh host true`.
- The sender, the receiver and, for sockets, the relay that joins a TAP to each socket
  (`bench/tap_relay.c`) share the CPUs with the tool, but are not counted as its own.

Each is run with its own defaults. `ssh -w` and vde get the cipher that OpenSSH prefers, vknet asks
for AES-GCM, and the plain pipe has the fastest of OpenSSH's. In "wire v1" the remote half is not
told that its client speaks v2, so that both speak the wire of 2008; in "sockets" both ends are
SOCK_SEQPACKET sockets instead of TAPs.

{commands}

## The machine

{machine}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run.

    Attributes:
        seconds: of each test of throughput.
        load: seconds of load for memory.
        machine: from `bench.machine.describe`.
        rounds: by the tool's name, in the order they were run in.
    """

    seconds: float
    load: float
    machine: Mapping[str, str]
    rounds: Mapping[str, Sequence[Round]]


def to_json(run: Run) -> dict[str, Any]:
    """All of a run, as JSON has it: ``tools`` by name, each with ``medians`` and ``rounds``."""
    return {
        "seconds": run.seconds,
        "load": run.load,
        "machine": dict(run.machine),
        "figures": {figure.key: figure.title for figure in FIGURES},
        "tools": {
            name: {
                "commands": list(rounds[0].commands),
                "medians": _medians(rounds),
                "rounds": [done.figures for done in rounds],
                "memory": {host: each for done in rounds for host, each in _memory(done).items()},
            }
            for name, rounds in run.rounds.items()
        },
    }


def _medians(rounds: Sequence[Round]) -> dict[str, float]:
    keys = rounds[0].figures
    return {key: statistics.median(done.figures[key] for done in rounds) for key in keys}


def _memory(done: Round) -> dict[str, dict[str, Any]]:
    return {
        host: {"peak": memory.peak, "growth": memory.growth, "processes": memory.peaks}
        for host, memory in done.memory.items()
    }


def to_markdown(result: Mapping[str, Any]) -> str:
    """The page, of what `to_json` made."""
    tools = result["tools"]
    return PAGE.format(
        rounds=len(next(iter(tools.values()))["rounds"]),
        seconds=result["seconds"],
        load=result["load"],
        medians=_median_table(tools),
        ratios=_ratio_table(tools),
        memory=_memory_table(tools),
        commands=table(
            ["tool", "commands"],
            [[name, ", ".join(f"`{c}`" for c in tool["commands"])] for name, tool in tools.items()],
        ),
        machine=table(["", ""], [list(item) for item in result["machine"].items()]),
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _median_table(tools: Mapping[str, Any]) -> str:
    rows = [
        [name, *(_value(tool["medians"].get(figure.key), figure.digits) for figure in FIGURES)]
        for name, tool in tools.items()
    ]
    return table(["", *(figure.title for figure in FIGURES)], rows)


def _ratio_table(tools: Mapping[str, Any]) -> str:
    figures = [figure for figure in FIGURES if figure.has_ratio]
    tcp = figures[:2]
    head = [figure.title.rpartition(", ")[0] or figure.title for figure in figures]
    head += [f"{figure.title[:5]} of the pipe" for figure in tcp]
    rows = [
        [
            name,
            *(_ratio(tools, name, BASELINE, figure) for figure in figures),
            *(_ratio(tools, name, LIMIT, figure) for figure in tcp),
        ]
        for name in tools
    ]
    return table(["", *head], rows)


def _ratio(tools: Mapping[str, Any], name: str, other: str, figure: Figure) -> str:
    """The ratio of two medians; `NONE` where one of them was not measured."""
    medians = [tools.get(each, NOTHING)["medians"].get(figure.key) for each in (name, other)]
    if medians[0] is None or not medians[1]:
        return NONE
    return f"{medians[0] / medians[1]:.2f}"


def _memory_table(tools: Mapping[str, Any]) -> str:
    rows = []
    for name, tool in tools.items():
        cells = [name]
        for memory in tool["memory"].values():
            processes = memory["processes"].items()
            parts = ", ".join(f"{process} {size:.1f}" for process, size in processes)
            cells += [f"{memory['peak']:.1f} ({parts})", f"{memory['growth']:+.1f}"]
        rows.append(cells)
    return table(["", "here", "growth", "there", "growth"], rows)


def _value(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"
