"""Loads on a path, and the round trips of pings under them.

A load is TCP or UDP from ``here`` to ``there``, TCP both ways, or TCP through a tunnel beside one
TCP flow that has no tunnel.  Each load runs for a while before the measurement, until the queues
have settled.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.measures import read_line
from testbed.hosts import REPOSITORY, eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.hosts import Bed, Host

__all__ = [
    "DATAGRAM_BYTES",
    "LOADS",
    "MAX_RATE",
    "PORT",
    "WARM_UP_S",
    "Load",
    "Outcome",
    "idle_pings",
    "ping_command",
    "run_load",
]

PING_INTERVAL_S: Final = 0.05
WARM_UP_S: Final = 4.0

# A load beside another one, and its warm-up, take this many times as long.  Both need the time to
# find their shares: CUBIC takes seven seconds and more from one loss to the next.
COMPETING_FACTOR: Final = 3

# The ports of TCP through the tunnel, and of the flow beside it.
PORT: Final = 5203
BESIDE_PORT: Final = 5204

# A ping that takes longer counts as lost.
PING_TIMEOUT_S: Final = 5

# The payload of a datagram in bytes, and its Ethernet, IPv4 and UDP headers.
DATAGRAM_BYTES: Final = 1200
HEADER_BYTES: Final = 14 + 20 + 8

# The highest rate of the sender in datagrams per second; Python is no faster.
MAX_RATE: Final = 100e3


@dataclass(frozen=True, slots=True)
class Load:
    """Traffic that fills the path.

    Attributes:
        name: its name in the table.
        flows: number of TCP flows in each direction; 0 for UDP.
        both: whether the other direction is loaded as well.
        factor: the rate of UDP, as a multiple of the rate of the path.
        beside: whether one TCP flow crosses the path in the same direction without a tunnel.
    """

    name: str
    flows: int = 0
    both: bool = False
    factor: float = 0.0
    beside: bool = False


LOADS: Final = (
    Load("1 TCP", 1),
    Load("8 TCP", 8),
    Load("8 TCP both ways", 8, both=True),
    Load("UDP at 2x", factor=2.0),
    Load("8 TCP beside a bare one", 8, beside=True),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a load.

    Attributes:
        pings: of each answered ping, the seconds since the first ping, and the round trip in ms.
        lost: number of pings without an answer.
        goodput: payload that arrived, in Mbit/s: of each loaded direction, then of the flow
            without a tunnel.
        flows: the goodput of each flow of the first direction.
    """

    pings: list[tuple[float, float]]
    lost: int
    goodput: list[float]
    flows: list[float]


def run_load(
    load: Load, bed: Bed, addresses: tuple[str, str], rate: float, seconds: float
) -> Outcome:
    """Run a load, and ping during it.

    Args:
        load: the load.
        bed: the hosts.
        addresses: of ``here`` and ``there`` in the tunnel.
        rate: of the path, in bits per second.
        seconds: duration of the measurement.
    """
    here, there = bed.here, bed.there
    warm_up = WARM_UP_S
    if load.beside:
        warm_up, seconds = COMPETING_FACTOR * warm_up, COMPETING_FACTOR * seconds
    ways = [_Way(here, there, addresses[1])]
    if load.both:
        ways.append(_Way(there, here, addresses[0]))
    if load.beside:
        ways.append(_Way(here, there, bed.THERE4, BESIDE_PORT))
    with ExitStack() as stack:
        receivers = [stack.enter_context(_receiver(load, way, warm_up, seconds)) for way in ways]
        for receiver in receivers:
            read_line(receiver)
        for way in ways:
            stack.enter_context(_sender(load, way, rate, warm_up + seconds))
        time.sleep(warm_up)
        pings, lost = _pings(here, addresses[1], seconds)
        answers = [json.loads(read_line(receiver)) for receiver in receivers]
    flows = [_rates(load, answer, seconds) for answer in answers]
    return Outcome(pings, lost, [sum(each) for each in flows], flows[0])


def idle_pings(bed: Bed, address: str, below: float, within: float = 20.0) -> list[float]:
    """Wait until the path is idle; return the round trips of 20 pings, in ms.

    Args:
        bed: the hosts.
        address: of ``there``.
        below: the path is idle when the median of the pings is below this, in ms.
        within: the deadline, in seconds from now.
    """

    def pings() -> list[float]:
        # The path may lose some of them.
        times = [ms for _, ms in _pings(bed.here, address, 20 * PING_INTERVAL_S)[0]]
        return times if times and sorted(times)[len(times) // 2] < below else []

    return eventually(pings, f"pings below {below:g} ms to {address}", within)


@dataclass(frozen=True, slots=True)
class _Way:
    """One direction of a load: its hosts, and the address and port of the receiver."""

    sender: Host
    receiver: Host
    address: str
    port: int = PORT

    def flows(self, load: Load) -> int:
        return 1 if self.port == BESIDE_PORT else load.flows


class _Running:
    """A program of `bench` on a host, killed at the end of the context."""

    def __init__(self, host: Host, program: str, *words: str) -> None:
        path = str(REPOSITORY / "bench" / program)
        self._process = host.start(sys.executable, path, *words, stdout=subprocess.PIPE)

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()


def _receiver(load: Load, way: _Way, warm_up: float, seconds: float) -> _Running:
    times = (f"{warm_up:g}", f"{seconds:g}")
    if load.flows:
        words = ("receive", way.address, str(way.port), str(way.flows(load)), *times)
        return _Running(way.receiver, "flows.py", *words)
    return _Running(way.receiver, "datagrams.py", "receive", way.address, *reversed(times))


def _sender(load: Load, way: _Way, rate: float, seconds: float) -> _Running:
    if load.flows:
        flows = str(way.flows(load))
        return _Running(way.sender, "flows.py", "send", way.address, str(way.port), flows)
    count = min(load.factor * rate / (8 * (DATAGRAM_BYTES + HEADER_BYTES)), MAX_RATE)
    # The receiver may have to wait for the first datagram.
    words = (f"{2 * seconds:g}", f"{count:g}", str(DATAGRAM_BYTES))
    return _Running(way.sender, "datagrams.py", "send", way.address, *words)


def _rates(load: Load, answer: list[int] | float, seconds: float) -> list[float]:
    """Convert the output of the receiver to Mbit/s per flow."""
    if isinstance(answer, list):
        return [8e-6 * size / seconds for size in answer]
    return [8e-6 * DATAGRAM_BYTES * answer]


def ping_command(address: str, seconds: float) -> tuple[str, ...]:
    """Return the command that pings for `seconds`."""
    count = ping_count(seconds)
    return ("ping", "-n", f"-c{count}", f"-i{PING_INTERVAL_S:g}", f"-W{PING_TIMEOUT_S}", address)


def ping_count(seconds: float) -> int:
    """Return the number of pings in `seconds`."""
    return max(1, round(seconds / PING_INTERVAL_S))


def _pings(host: Host, address: str, seconds: float) -> tuple[list[tuple[float, float]], int]:
    """Ping; return the time and the round trip of each answered ping, and how many were lost."""
    command = ping_command(address, seconds)
    output = host.run(*command, check=False, timeout=seconds + 30).stdout
    count = ping_count(seconds)
    found: Sequence[tuple[str, str]] = re.findall(r"icmp_seq=(\d+) .*time=([\d.]+)", output)
    first = {int(number): float(ms) for number, ms in reversed(found)}
    return [((n - 1) * PING_INTERVAL_S, ms) for n, ms in sorted(first.items())], count - len(first)
