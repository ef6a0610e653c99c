"""A bottleneck in virtual time: a server of constant rate behind a queue, and those who load it.

Nothing here is random and nothing sleeps: a run is the same every time.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from functools import partial
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.support.packets import ethernet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vknet.qdisc.fq_codel import FlowQueue

NOT_CAPABLE, ECT1, ECT0, CE = range(4)
UDP: Final = 17
FULL: Final = 1514
ADDRESSES4: Final = IPv4Address("198.18.0.1").packed + IPv4Address("198.18.0.2").packed
ADDRESSES6: Final = IPv6Address("fd00::1").packed + IPv6Address("fd00::2").packed

Listener: TypeAlias = "Callable[[int, bool], None]"


def checksum(header: bytes) -> int:
    """The Internet checksum of a header, which is 0 when its own is right (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(
    flow: int, number: int = 0, size: int = 64, *, ecn: int = 0, tags: bytes = b"", version: int = 4
) -> bytes:
    """A UDP frame that carries its number; flows differ by source port.  Its checksum is right."""
    tail = size - len(tags) - 14
    if version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0xB8 | ecn, tail, number & 0xFFFF, 0, 64, UDP, 0)
        addresses = ADDRESSES4
        right = checksum(head + addresses)
        head = head[:10] + right.to_bytes(2, "big") + addresses
    else:
        addresses = ADDRESSES6
        head = struct.pack("!IHBB", 6 << 28 | ecn << 20, tail - 40, UDP, 64) + addresses
    body = struct.pack("!HHHHQ", flow, 9, tail - len(head), 0, number)
    packet = (head + body).ljust(tail, b"\0")
    return ethernet(0x0800 if version == 4 else 0x86DD, packet, tags=tags)


def read(frame: bytes) -> tuple[int, int, bool]:
    """The flow, the number and whether it is marked, of an untagged `datagram`."""
    v4 = frame[12] == 8
    body = frame[34:] if v4 else frame[54:]
    flow, _, _, _, number = struct.unpack_from("!HHHHQ", body)
    return flow, number, (frame[15] if v4 else frame[15] >> 4) & CE == CE


class Bottleneck:
    """Sends what is in the queue at `rate` bytes a second, and tells each flow what arrived."""

    def __init__(self, queue: FlowQueue[bytes], rate: float) -> None:
        self.now = 0.0
        self.queue = queue
        self.rate = rate
        self.busy = False
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.arrived: defaultdict[int, int] = defaultdict(int)
        self.delays: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        self.sent: dict[tuple[int, int], float] = {}
        self.listeners: dict[int, Listener] = {}

    def at(self, when: float, act: Callable[[], None]) -> None:
        heappush(self.events, (when, next(self.order), act))

    def run(self, until: float) -> None:
        while self.events and self.events[0][0] <= until:
            self.now, _, act = heappop(self.events)
            act()
        self.now = until

    def send(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self.sent[read(frame)[:2]] = self.now
        self.queue.push(frames, self.now)
        if not self.busy:
            self._serve()

    def _serve(self) -> None:
        pulled = self.queue.pull(self.now, 1)
        self.busy = bool(pulled)
        for frame in pulled:
            self.at(self.now + len(frame) / self.rate, partial(self._done, frame))

    def _done(self, frame: bytes) -> None:
        flow, number, marked = read(frame)
        self.arrived[flow] += len(frame)
        self.delays[flow].append((self.now, self.now - self.sent.pop((flow, number))))
        if flow in self.listeners:
            self.listeners[flow](number, marked)
        self._serve()

    def delays_after(self, flow: int, since: float) -> list[float]:
        """Seconds from being pushed to having left, of those that left later, sorted."""
        return sorted(delay for when, delay in self.delays[flow] if when > since)


class Steady:
    """Sends a frame every so often, whatever becomes of it."""

    def __init__(self, wire: Bottleneck, flow: int, every: float, size: int, ecn: int = 0) -> None:
        self.wire, self.flow, self.every, self.size, self.ecn = wire, flow, every, size, ecn
        self.numbers = count()
        wire.at(wire.now, self._send)

    def _send(self) -> None:
        self.wire.send([datagram(self.flow, next(self.numbers), self.size, ecn=self.ecn)])
        self.wire.at(self.wire.now + self.every, self._send)


class Responsive:
    """TCP as far as a queue can tell: a window that grows, and is halved once a round trip.

    A loss shows by the number that is missing when the next arrives, or by a second of silence.
    """

    def __init__(
        self, wire: Bottleneck, flow: int, round_trip: float, size: int = FULL, ecn: int = 0
    ) -> None:
        self.wire, self.flow, self.round_trip = wire, flow, round_trip
        self.size, self.ecn = size, ecn
        self.window = 10.0
        self.threshold = float("inf")
        self.next = self.expected = self.reduced_at = 0
        self.losses = self.marked = 0
        self.heard = wire.now
        wire.listeners[flow] = self._arrived
        wire.at(wire.now, self._fill)
        wire.at(wire.now + 1, self._watch)

    def _arrived(self, number: int, marked: bool) -> None:
        self.wire.at(self.wire.now + self.round_trip, partial(self._acknowledged, number, marked))

    def _acknowledged(self, number: int, marked: bool) -> None:
        self.heard = self.wire.now
        self.losses += number - self.expected
        self.marked += marked
        if (marked or number > self.expected) and number >= self.reduced_at:
            self.window = self.threshold = max(self.window / 2, 2.0)
            self.reduced_at = self.next
        else:
            self.window += 1 if self.window < self.threshold else 1 / self.window
        self.expected = number + 1
        self._fill()

    def _fill(self) -> None:
        room = int(self.window) - (self.next - self.expected)
        numbers = range(self.next, self.next + max(room, 0))
        self.next += len(numbers)
        if numbers:
            self.wire.send([datagram(self.flow, n, self.size, ecn=self.ecn) for n in numbers])

    def _watch(self) -> None:
        if self.wire.now - self.heard >= 1:
            self.losses += self.next - self.expected
            self.window, self.expected = 2.0, self.next
            self.heard = self.wire.now
            self._fill()
        self.wire.at(self.wire.now + 1, self._watch)
