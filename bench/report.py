"""The result of a run: medians and ratios, as JSON and as a page in Markdown.  No I/O.

The JSON holds every round.  The page and the plot are made of the JSON alone.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.datagrams import WARM_UP_S
from bench.figures import BASELINE, FIGURES, SSH_PIPE, Figure
from bench.measures import OFFERED_RATES, PINGS, UDP_SHARE, iperf_command, ping_command
from bench.tools import ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.measures import Round

__all__ = ["NOT_MEASURED", "Run", "table", "to_json", "to_markdown"]

NOT_MEASURED: Final = "-"
NO_RESULT: Final[dict[str, Any]] = {"medians": {}}

PAGE: Final = """\
# Benchmarks

This command measures everything in this part of the page. It writes the page, `benchmarks.json`
(with every round) and the plot:

    sudo make bench ROUNDS={rounds} SECONDS={seconds:g}

All tools run on one machine: two network namespaces, `here` and `there`, with a cable between them
and a real sshd. Absolute figures depend on that machine; compare the ratios.

![the medians, with the span of the rounds](benchmarks.png)

## Medians

The medians of {rounds} rounds. Some rows alone, here the first and that of `ssh -w`:

    sudo .venv/bin/python -m bench --only vknet "ssh -w" --seconds {seconds:g} --to /tmp/bench

{medians}

- → is the direction from `here` to `there`, ← the other one, ⇄ both at the same time.
- `-` means not measured.

## Against `ssh -w`

Each figure divided by that of `ssh -w` in the same run. For TCP and UDP more than 1 is better, for
RTT and CPU less than 1. The last two columns are TCP divided by TCP of the plain ssh pipe.

{ratios}

## Memory under load

Resident memory in MB, of all processes of the tool on one host: the peak during {load:g} s of TCP
both ways, and the growth (the mean of the last fifth of that time minus that of the second fifth).

{memory}

## How each figure is measured

In each round the tools take turns. Each tool is started for its turn, and runs alone. The commands
below run on `here`, and for TCP `iperf3 --server --one-off` runs on `there`. `{there}` is the
address of `there` in the tunnel.

{how}

- The interval of the pings is longer than a delayed ACK. `ssh -w` leaves Nagle's algorithm on, so
  closer pings would wait for each other.
- The bench gives the TAP its address as soon as the TAP exists.
- The programs that send and receive, and the relay between a TAP and a socket
  (`bench/tap_relay.c`), use the same CPUs, but do not count as the tool.
- The plain ssh pipe has no interface. For TCP → it carries a stream to `cat >/dev/null`, for TCP ←
  one from `cat /dev/zero`; its RTT is that of 64 bytes through `cat` (`bench/pipe.py`).

Each tool runs with its own defaults. `ssh -w` and vde use OpenSSH's default cipher, vknet asks for
AES-GCM, and the plain ssh pipe uses the fastest cipher of OpenSSH. In "wire v1" the remote half is
not told that its client speaks v2, so both speak the protocol of 2008. In "sockets" both ends are
SOCK_SEQPACKET sockets instead of TAPs.

{commands}

## The machine

{machine}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A run.

    Attributes:
        seconds: duration of each throughput test.
        load: seconds of the load for memory.
        machine: from `bench.machine.describe`.
        rounds: by the name of the tool, in the order of the run.
    """

    seconds: float
    load: float
    machine: Mapping[str, str]
    rounds: Mapping[str, Sequence[Round]]


def to_json(run: Run) -> dict[str, Any]:
    """Convert a run to JSON: ``tools`` by name, each with ``medians`` and ``rounds``."""
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
    """Write the page from a result of `to_json`."""
    tools = result["tools"]
    seconds = result["seconds"]
    return PAGE.format(
        rounds=len(next(iter(tools.values()))["rounds"]),
        seconds=seconds,
        load=result["load"],
        there=ADDRESSES[1],
        how=_command_table(seconds, result["load"]),
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
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _command_table(seconds: int, load: float) -> str:
    """Return a table of the command behind each figure."""
    there = ADDRESSES[1]
    udp_s = UDP_SHARE * seconds
    receive = f"python bench/datagrams.py receive {there} {udp_s:g}"
    send = f"python bench/datagrams.py send {there} {udp_s + 2 * WARM_UP_S:g} RATE"
    rates = f"RATE is {OFFERED_RATES[0]:.0f} per second and grows by 20 % until fewer arrive"
    rows = [
        ("TCP →", _code(iperf_command(seconds)), "received bytes"),
        ("TCP ←", _code(iperf_command(seconds, "--reverse")), "received bytes"),
        ("TCP ⇄", _code(iperf_command(seconds, "--bidir")), "received bytes, both directions"),
        (
            "64-byte UDP",
            f"`{receive}` on `there`, `{send}`",
            f"highest rate of received datagrams; {rates}",
        ),
        ("idle RTT", _code(ping_command(PINGS)), "median (p50) and 99th percentile (p99)"),
        (
            "CPU s per GB",
            "`cat /proc/PID/stat` before TCP → and after TCP ←",
            "user and system time of the tool's processes on both hosts, per GB received",
        ),
        (
            "first ping",
            f"the last command of the tool (below), then `ping -n -c1 {there}`",
            "time from the first command to the first answer",
        ),
        (
            "first ping less `ssh host true`",
            "`ssh there true`",
            "time of the first ping, minus the time of this command",
        ),
        (
            "memory",
            f"`cat /proc/PID/statm` every second during `iperf3 -c {there} -t {load:g} --bidir`",
            "resident set size, added up over the processes",
        ),
    ]
    return table(["figure", "command on `here`", "result"], rows)


def _code(command: Sequence[str]) -> str:
    return f"`{' '.join(command)}`"


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
    head += [f"{figure.title[:5]} to ssh pipe" for figure in tcp]
    rows = [
        [
            name,
            *(_ratio(tools, name, BASELINE, figure) for figure in figures),
            *(_ratio(tools, name, SSH_PIPE, figure) for figure in tcp),
        ]
        for name in tools
    ]
    return table(["", *head], rows)


def _ratio(tools: Mapping[str, Any], name: str, other: str, figure: Figure) -> str:
    """Return the ratio of two medians; `NOT_MEASURED` if one of them is missing."""
    medians = [tools.get(each, NO_RESULT)["medians"].get(figure.key) for each in (name, other)]
    if medians[0] is None or not medians[1]:
        return NOT_MEASURED
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
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"
