"""What is measured on a tunnel that is up, and how.

* TCP: iperf3, one stream; what the receiver got.
* UDP: datagrams with a payload of 64 bytes, at rising rates; the most that the receiver got.
* Round trip: pings of 56 bytes, one every 50 ms, with nothing else under way.
* CPU: of all processes of the tool on both hosts, over the two TCP tests of one direction each.
* Memory: of the same processes, sampled under TCP both ways.
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

from bench.datagrams import WARM_UP
from bench.processes import Memory, Pids, cpu_seconds
from bench.tools import ADDRESSES, SSHD_OPTIONS, Tool, Tunnel
from testbed.hosts import REPOSITORY, Bed, Host, eventually, two_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.figures import Figures

__all__ = [
    "PINGS",
    "PING_INTERVAL",
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

# Further apart than the 40 ms of a delayed ACK: where a tool leaves Nagle's algorithm on, as
# `ssh -w` does, a closer ping waits for the ACK of the one before, and that is another figure.
PINGS: Final = 120
PING_INTERVAL: Final = 0.05

# Datagrams a second: from so many on, by so much more each time, to more than can be sent.  Many:
# a tool may deliver far less, or nothing, at a rate that is far above what it can carry.  After so
# many in a row at which less than that share of the best arrived, no better one is to come.
OFFERED: Final = tuple(30e3 * 1.2**step for step in range(18))
WORSE: Final = 2
WORSE_SHARE: Final = 0.9

SAMPLE_EVERY: Final = 1.0

# Over the duration of a test, until it counts as hung.
PATIENCE: Final = 45.0

Memories = dict[str, Memory]
"""By the name of the host."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one tool did in one round.

    Attributes:
        memory: empty in rounds without a long load.
        commands: what was started, in that order; the last one is the user's.
    """

    figures: Figures
    memory: Memories
    commands: Sequence[str]


@contextmanager
def measuring_bed() -> Iterator[Bed]:
    """Two hosts on which every tool can run."""
    with two_hosts() as bed:
        bed.stop_sshd()
        bed.start_sshd(*SSHD_OPTIONS)
        yield bed


def ssh_true(bed: Bed) -> float:
    """Seconds that ``ssh there true`` takes, most of which any tool over ssh needs as well."""
    began = time.monotonic()
    bed.here.run("ssh", "there", "true")
    return time.monotonic() - began


def tunnel_round(tool: Tool, bed: Bed, seconds: int, load: int) -> Round:
    """Start a tool, measure it, end it.

    Args:
        tool: which.
        bed: from `measuring_bed`.
        seconds: of each test of throughput.
        load: seconds of load for the sake of memory; 0 for none.
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
        # The last, because what it leaves in a tool's queues may take long to get through.
        figures["udp"] = udp(bed, seconds) / 1000
        return Round(figures, memory, tunnel.commands)


@contextmanager
def iperf_server(bed: Bed) -> Iterator[None]:
    """An iperf3 that listens on ``there``, for one test."""
    # One that serves many does not listen for a moment after each.
    server = bed.there.start("iperf3", "--server", "--one-off")
    try:
        listens = ("ss", "-Hltn", "sport = :5201")
        eventually(lambda: bed.there.output(*listens), "iperf3 listening")
        yield
    finally:
        server.kill()
        server.wait()


def iperf(bed: Bed, to: str, seconds: int, options: Sequence[str]) -> dict[str, Any]:
    """The ``end`` of iperf3's report.

    Args:
        bed: the hosts.
        to: the address of ``there``.
        seconds: iperf3 leaves out what is behind a point.
        options: more of them.

    Raises:
        AssertionError: iperf3 failed, with its report.
    """
    client = ("iperf3", "-c", to, "-t", str(seconds), "-J", *options)
    with iperf_server(bed):
        said = bed.here.output(*client, timeout=seconds + PATIENCE)
    report: dict[str, Any] = json.loads(said)
    if "error" in report:
        raise AssertionError(f"iperf3: {report['error']}")
    end: dict[str, Any] = report["end"]
    return end


def tcp(bed: Bed, seconds: int, *options: str, to: str = ADDRESSES[1]) -> float:
    """Bytes that arrived, in both directions together if there are two."""
    end = iperf(bed, to, seconds, options)
    sums = ("sum_received", "sum_received_bidir_reverse")
    return float(sum(end[name]["bytes"] for name in sums if name in end))


def udp(bed: Bed, seconds: float) -> float:
    """Datagrams of 64 bytes that arrive each second: the most, over the offered loads."""
    best = 0.0
    worse = 0
    for rate in OFFERED:
        arrived = udp_at(bed, 0.3 * seconds, rate)
        best = max(best, arrived)
        worse = worse + 1 if arrived < WORSE_SHARE * best else 0
        if worse == WORSE:
            break
    return best


def udp_at(bed: Bed, seconds: float, rate: float, to: str = ADDRESSES[1]) -> float:
    """Datagrams that arrive each second when so many are sent."""
    receiver = datagrams(bed.there, "receive", to, seconds)
    sender = None
    try:
        read_line(receiver)
        sender = datagrams(bed.here, "send", to, seconds + 2 * WARM_UP, rate)
        return float(read_line(receiver))
    finally:
        for program in (receiver, sender):
            if program is not None:
                program.kill()
                program.wait()


def datagrams(host: Host, role: str, at: str, *numbers: float) -> subprocess.Popen[bytes]:
    """`bench.datagrams` on a host."""
    program = str(REPOSITORY / "bench/datagrams.py")
    words = [f"{number:g}" for number in numbers]
    return host.start(sys.executable, program, role, at, *words, stdout=subprocess.PIPE)


def read_line(program: subprocess.Popen[bytes]) -> str:
    if program.stdout is None:
        raise AssertionError("asked for as a pipe")
    line = program.stdout.readline().decode()
    if not line:
        raise AssertionError("it ended without a word")
    return line


def round_trips(bed: Bed, count: int) -> list[float]:
    """Round trips in milliseconds, one every `PING_INTERVAL`.

    Raises:
        AssertionError: hardly any ping came back.
    """
    ping = ("ping", "-n", f"-c{count}", f"-i{PING_INTERVAL:g}", "-W1", ADDRESSES[1])
    said = bed.here.run(*ping, check=False).stdout
    times = [float(found) for found in re.findall(r"time=([\d.]+)", said)]
    if len(times) < 0.9 * count:
        raise AssertionError(f"{len(times)} of {count} pings came back")
    return times


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all are not above (nearest rank)."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


def memory_under_load(bed: Bed, pids: Pids, seconds: int) -> Memories:
    """Have TCP run both ways for so many seconds, and watch."""
    with iperf_server(bed):
        client = bed.here.start("iperf3", "-c", ADDRESSES[1], "-t", str(seconds), "--bidir")
        try:
            return watch(pids, lambda: client.poll() is None, seconds + PATIENCE)
        finally:
            client.kill()
            client.wait()


def watch(pids: Pids, running: Callable[[], bool], within: float) -> Memories:
    """Sample the memory of these processes about once a second, as long as the load is running.

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
        time.sleep(SAMPLE_EVERY)
    return memory
