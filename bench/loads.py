"""Loads on a path, and how a ping fares under them.

A load is TCP or UDP from ``here`` to ``there``, or TCP both ways; or TCP beside that of somebody
who has the path bare.  It runs for a while before anything counts, so that queues are what they
stay.
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

__all__ = ["LOADS", "PING_EVERY", "WARM_UP", "Load", "Outcome", "idle_pings", "under"]

PING_EVERY: Final = 0.05
WARM_UP: Final = 4.0

# Two that compete need longer to find what each gets: CUBIC takes seven seconds and more from one
# loss to the next.  So many times what other loads have.
COMPETING: Final = 3

# Of TCP through what is measured, and of the one beside it.
PORT: Final = 5203
BESIDE_PORT: Final = 5204

# A ping that takes longer counts as lost.
PING_PATIENCE: Final = 5

# Payload of the datagrams, and the bytes of headers that a path carries with each.
DATAGRAM: Final = 1200
HEADERS: Final = 14 + 20 + 8

# How many datagrams a second the sender is asked for at the most: as many as Python can.
FASTEST: Final = 100e3


@dataclass(frozen=True, slots=True)
class Load:
    """What keeps the path busy.

    Attributes:
        name: its row.
        flows: of TCP; 0 for UDP.
        both: also in the other direction.
        factor: of the path's rate that UDP is sent at.
        beside: one TCP goes the same way on the bare path, whatever is measured.
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
    """What came of a load.

    Attributes:
        pings: milliseconds, one a ping that came back, with the seconds since the first one.
        lost: how many did not.
        goodput: Mbit/s of payload that arrived, in each direction that was loaded; and what the TCP
            on the bare path had.
        flows: the same by flow, in the first of them.
    """

    pings: list[tuple[float, float]]
    lost: int
    goodput: list[float]
    flows: list[float]


def under(load: Load, bed: Bed, addresses: tuple[str, str], rate: float, seconds: float) -> Outcome:
    """Have the load run, and ping meanwhile.

    Args:
        load: which.
        bed: the hosts.
        addresses: of ``here`` and ``there`` on what is measured.
        rate: the path's, in bits per second.
        seconds: that count.
    """
    here, there = bed.here, bed.there
    warm_up = WARM_UP
    if load.beside:
        warm_up, seconds = COMPETING * warm_up, COMPETING * seconds
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
    """Wait until the path is idle again; milliseconds of twenty pings.

    Args:
        bed: the hosts.
        address: of ``there``.
        below: milliseconds that a ping takes at the most then.
        within: seconds that may take.
    """

    def pings() -> list[float]:
        # Some may get lost on such a path.
        times = [ms for _, ms in _pings(bed.here, address, 20 * PING_EVERY)[0]]
        return times if times and sorted(times)[len(times) // 2] < below else []

    return eventually(pings, f"pings of less than {below:g} ms to {address}", within)


@dataclass(frozen=True, slots=True)
class _Way:
    """From whom a load goes to whom, and where it is received."""

    sender: Host
    receiver: Host
    at: str
    port: int = PORT

    def flows(self, load: Load) -> int:
        return 1 if self.port == BESIDE_PORT else load.flows


class _Running:
    """A program on a host; killed at the end of the context."""

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
        flows = str(way.flows(load))
        return _Running(way.receiver, "flows.py", "receive", way.at, str(way.port), flows, *times)
    return _Running(way.receiver, "datagrams.py", "receive", way.at, *reversed(times))


def _sender(load: Load, way: _Way, rate: float, seconds: float) -> _Running:
    if load.flows:
        flows = str(way.flows(load))
        return _Running(way.sender, "flows.py", "send", way.at, str(way.port), flows)
    count = min(load.factor * rate / (8 * (DATAGRAM + HEADERS)), FASTEST)
    # Longer than the receiver may have to wait for the first one.
    words = (f"{2 * seconds:g}", f"{count:g}", str(DATAGRAM))
    return _Running(way.sender, "datagrams.py", "send", way.at, *words)


def _rates(load: Load, answer: list[int] | float, seconds: float) -> list[float]:
    """Mbit/s by flow, of what the receiver printed."""
    if isinstance(answer, list):
        return [8e-6 * size / seconds for size in answer]
    return [8e-6 * DATAGRAM * answer]


def _pings(host: Host, address: str, seconds: float) -> tuple[list[tuple[float, float]], int]:
    count = max(1, round(seconds / PING_EVERY))
    ping = ("ping", "-n", f"-c{count}", f"-i{PING_EVERY:g}", f"-W{PING_PATIENCE}", address)
    said = host.run(*ping, check=False, timeout=seconds + 30).stdout
    found: Sequence[tuple[str, str]] = re.findall(r"icmp_seq=(\d+) .*time=([\d.]+)", said)
    first = {int(number): float(ms) for number, ms in reversed(found)}
    return [((n - 1) * PING_EVERY, ms) for n, ms in sorted(first.items())], count - len(first)
