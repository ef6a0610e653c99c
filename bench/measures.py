"""Measurements on a tunnel that is up.

* TCP: iperf3 with one stream; the receiver's rate.
* UDP: datagrams with a payload of 64 bytes at increasing rates; the receiver's best rate.
* Round trip: pings of 56 bytes, one every 50 ms, on an idle tunnel.
* CPU: all processes of the tool on both hosts, during the two one-way TCP tests.
* Memory: the same processes, sampled during TCP both ways.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.datagrams import WARM_UP_S
from bench.processes import Memory, Pids, cpu_seconds
from bench.tools import ADDRESSES, SSHD_OPTIONS, Tool, Tunnel
from testbed.hosts import REPOSITORY, Bed, Host, eventually, two_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.figures import Figures

__all__ = [
    "PINGS",
    "PING_INTERVAL_S",
    "Memories",
    "Round",
    "measuring_bed",
    "percentile",
    "read_line",
    "ssh_true",
    "tcp",
    "tunnel_round",
    "udp_at",
    "watch",
]

# The interval is longer than a delayed ACK (40 ms).  Where a tool leaves Nagle's algorithm on, as
# `ssh -w` does, a closer ping would wait for the ACK of the one before.
PINGS: Final = 120
PING_INTERVAL_S: Final = 0.05

# The rates to try, in datagrams per second; the last is more than can be sent.  The steps are
# small, because a tool may deliver far less than its best, or nothing, at a rate far above it.  The
# test ends after two rates in a row at which less than 90 % of the best arrived.
OFFERED_RATES: Final = tuple(30e3 * 1.2**step for step in range(18))
WORSE_RATES_MAX: Final = 2
WORSE_SHARE: Final = 0.9

# The duration of one UDP test, as a share of that of a TCP test.
UDP_SHARE: Final = 0.3

SAMPLE_INTERVAL_S: Final = 1.0

# A test that takes this much longer than its duration counts as hung.
HUNG_AFTER_S: Final = 45.0

Memories = dict[str, Memory]
"""Memory by the name of the host."""


@dataclass(frozen=True, slots=True)
class Round:
    """The results of one tool in one round.

    Attributes:
        figures: the figures.
        memory: by host; empty in rounds without a load for memory.
        commands: the commands that were started, in order; a user types the last one.
    """

    figures: Figures
    memory: Memories
    commands: Sequence[str]


@contextmanager
def measuring_bed() -> Iterator[Bed]:
    """Yield two hosts on which every tool can run."""
    with two_hosts() as bed:
        bed.stop_sshd()
        bed.start_sshd(*SSHD_OPTIONS)
        yield bed


def ssh_true(bed: Bed) -> float:
    """Return the seconds that ``ssh there true`` takes.  A tool over ssh needs most of them too."""
    began = time.monotonic()
    bed.here.run("ssh", "there", "true")
    return time.monotonic() - began


def tunnel_round(tool: Tool, bed: Bed, seconds: int, load: int) -> Round:
    """Start a tool, measure it, stop it.

    Args:
        tool: the tool.
        bed: from `measuring_bed`.
        seconds: duration of each throughput test.
        load: seconds of the load for memory; 0 for none.
    """
    base = ssh_true(bed)
    with Tunnel(bed, tool) as tunnel:
        times = round_trips(bed, PINGS)
        figures: Figures = {
            "first_ping": tunnel.first_ping,
            "over_ssh_true": tunnel.first_ping - base,
            "rtt_p50": percentile(times, 50),
            "rtt_p99": percentile(times, 99),
        }
        before = cpu_seconds(tunnel.pids)
        there = tcp(bed, seconds)
        here = tcp(bed, seconds, "--reverse")
        spent = cpu_seconds(tunnel.pids) - before
        figures["tcp_there"] = 8e-6 * there / seconds
        figures["tcp_here"] = 8e-6 * here / seconds
        figures["cpu_per_gb"] = spent / (1e-9 * (there + here))
        figures["tcp_both"] = 8e-6 * tcp(bed, seconds, "--bidir") / seconds
        memory = memory_under_load(bed, tunnel.pids, load) if load else {}
        # Last, because a tool may take long to empty the queues that this fills.
        figures["udp"] = udp(bed, seconds) / 1000
        return Round(figures, memory, tunnel.commands)


@contextmanager
def iperf_server(bed: Bed) -> Iterator[None]:
    """Run an iperf3 server on ``there`` for one test."""
    # A server for many tests does not listen for a moment after each of them.
    server = bed.there.start("iperf3", "--server", "--one-off")
    try:
        listens = ("ss", "-Hltn", "sport = :5201")
        eventually(lambda: bed.there.output(*listens), "iperf3 listening")
        yield
    finally:
        server.kill()
        server.wait()


def iperf_command(seconds: int, *options: str, to: str = ADDRESSES[1]) -> tuple[str, ...]:
    """Return the command of a TCP test on ``here``."""
    return ("iperf3", "-c", to, "-t", str(seconds), "-J", *options)


def ping_command(count: int) -> tuple[str, ...]:
    """Return the command of the idle round trips on ``here``."""
    return ("ping", "-n", f"-c{count}", f"-i{PING_INTERVAL_S:g}", "-W1", ADDRESSES[1])


def iperf(bed: Bed, to: str, seconds: int, options: Sequence[str]) -> dict[str, Any]:
    """Run iperf3; return the ``end`` of its report.

    Args:
        bed: the hosts.
        to: the address of ``there``.
        seconds: duration; iperf3 takes whole seconds only.
        options: more options of iperf3.

    Raises:
        AssertionError: iperf3 failed; the message has its error.
    """
    with iperf_server(bed):
        output = bed.here.output(
            *iperf_command(seconds, *options, to=to), timeout=seconds + HUNG_AFTER_S
        )
    report: dict[str, Any] = json.loads(output)
    if "error" in report:
        raise AssertionError(f"iperf3: {report['error']}")
    end: dict[str, Any] = report["end"]
    return end


def tcp(bed: Bed, seconds: int, *options: str, to: str = ADDRESSES[1]) -> float:
    """Run a TCP test; return the bytes that arrived, in both directions together with --bidir."""
    end = iperf(bed, to, seconds, options)
    sums = ("sum_received", "sum_received_bidir_reverse")
    return float(sum(end[name]["bytes"] for name in sums if name in end))


def udp(bed: Bed, seconds: float) -> float:
    """Return the highest rate at which datagrams of 64 bytes arrive, per second."""
    best = 0.0
    worse = 0
    for rate in OFFERED_RATES:
        arrived = udp_at(bed, UDP_SHARE * seconds, rate)
        best = max(best, arrived)
        worse = worse + 1 if arrived < WORSE_SHARE * best else 0
        if worse == WORSE_RATES_MAX:
            break
    return best


def udp_at(bed: Bed, seconds: float, rate: float, to: str = ADDRESSES[1]) -> float:
    """Send datagrams at a rate; return the rate at which they arrive.  Both are per second."""
    receiver = datagrams(bed.there, "receive", to, seconds)
    sender = None
    try:
        read_line(receiver)
        sender = datagrams(bed.here, "send", to, seconds + 2 * WARM_UP_S, rate)
        return float(read_line(receiver))
    finally:
        for program in (receiver, sender):
            if program is not None:
                program.kill()
                program.wait()


def datagrams(host: Host, role: str, at: str, *numbers: float) -> subprocess.Popen[bytes]:
    """Start `bench.datagrams` on a host."""
    program = str(REPOSITORY / "bench/datagrams.py")
    words = [f"{number:g}" for number in numbers]
    return host.start(sys.executable, program, role, at, *words, stdout=subprocess.PIPE)


def read_line(program: subprocess.Popen[bytes]) -> str:
    if program.stdout is None:
        raise AssertionError("stdout is a pipe")
    line = program.stdout.readline().decode()
    if not line:
        raise AssertionError("the program ended without output")
    return line


def round_trips(bed: Bed, count: int) -> list[float]:
    """Return the round trips of pings in ms, one every `PING_INTERVAL_S`.

    Raises:
        AssertionError: fewer than 90 % of the pings were answered.
    """
    output = bed.here.run(*ping_command(count), check=False).stdout
    times = [float(found) for found in re.findall(r"time=([\d.]+)", output)]
    if len(times) < 0.9 * count:
        raise AssertionError(f"{len(times)} of {count} pings were answered")
    return times


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` % of all values do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


def memory_under_load(bed: Bed, pids: Pids, seconds: int) -> Memories:
    """Sample the memory of processes during `seconds` of TCP both ways."""
    with iperf_server(bed):
        client = bed.here.start("iperf3", "-c", ADDRESSES[1], "-t", str(seconds), "--bidir")
        try:
            return watch(pids, lambda: client.poll() is None, seconds + HUNG_AFTER_S)
        finally:
            client.kill()
            client.wait()


def watch(pids: Pids, running: Callable[[], bool], within: float) -> Memories:
    """Sample the memory of processes about once a second while the load is running.

    Raises:
        AssertionError: it runs for longer than `within` seconds.
    """
    memory = {name: Memory() for name in pids}
    deadline = time.monotonic() + within
    while running():
        for name, side in pids.items():
            memory[name].sample(side)
        if time.monotonic() > deadline:
            raise AssertionError(f"the load did not end within {within:g} s")
        time.sleep(SAMPLE_INTERVAL_S)
    return memory
