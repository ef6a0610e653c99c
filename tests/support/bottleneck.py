"""A bottleneck in virtual time: a flow queue with a server of constant rate, and its senders.

Nothing is random and nothing sleeps, so every run gives the same result.  Sizes are in bytes, times
in seconds, and rates in bytes per second.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from tests.support.congestion_window import RENO_BETA, CongestionWindow
from tests.support.events import EventQueue
from tests.support.packets import IPV4, IPV6, UDP, ethernet, ipv4, ipv6, udp
from vknet.packet.ethernet import FULL_FRAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vknet.qdisc.fq_codel import FlowQueue

NOT_CAPABLE, ECT1, ECT0, CE = range(4)

Listener: TypeAlias = "Callable[[int, bool], None]"


def datagram(
    flow: int, number: int = 0, size: int = 64, *, ecn: int = 0, tags: bytes = b"", version: int = 4
) -> bytes:
    """Return a UDP frame with its number in it and a valid IP checksum.

    Args:
        flow: the source port.
        number: the number of the frame.
        size: the bytes of the frame.
        ecn: the ECN codepoint.
        tags: VLAN tags.
        version: the IP version.
    """
    room = size - len(tags) - 14 - (20 if version == 4 else 40) - 8
    body = udp(flow, 9, number.to_bytes(8, "big").ljust(room, b"\0"))
    if version == 4:
        packet = ipv4(
            "198.18.0.1",
            UDP,
            body,
            destination="198.18.0.2",
            tos=0xB8 | ecn,
            identification=number & 0xFFFF,
        )
    else:
        packet = ipv6("fd00::1", UDP, body, destination="fd00::2", traffic_class=ecn, hop_limit=64)
    return ethernet(IPV4 if version == 4 else IPV6, packet, tags=tags)


def read(frame: bytes) -> tuple[int, int, bool]:
    """Return the flow of an untagged `datagram`, its number, and whether it is CE-marked."""
    v4 = frame[12] == 8
    body = frame[34:] if v4 else frame[54:]
    flow, _, _, _, number = struct.unpack_from("!HHHHQ", body)
    return flow, number, (frame[15] if v4 else frame[15] >> 4) & CE == CE


class Bottleneck(EventQueue):
    """Serves a queue at a constant rate, and reports each frame to the listener of its flow.

    Attributes:
        now: the virtual time.
        arrived: the bytes that arrived, by flow.
        listeners: called with the number of an arrived frame and whether it is marked, by flow.
    """

    def __init__(self, queue: FlowQueue[bytes], rate: float) -> None:
        super().__init__()
        self.queue = queue
        self.rate = rate
        self.busy = False
        self.arrived: defaultdict[int, int] = defaultdict(int)
        self.delays: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        self.sent: dict[tuple[int, int], float] = {}
        self.listeners: dict[int, Listener] = {}

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
        """Return the delays of the frames that left after a time, queueing included, sorted."""
        return sorted(delay for when, delay in self.delays[flow] if when > since)


class Steady:
    """Sends frames at a constant rate, and does not respond to marks or drops.

    Args:
        bottleneck: the bottleneck.
        flow: the flow of its frames.
        interval_s: the time from one frame to the next.
        size: the bytes of a frame.
        ecn: the ECN codepoint of its frames.
    """

    def __init__(
        self, bottleneck: Bottleneck, flow: int, interval_s: float, size: int, ecn: int = 0
    ) -> None:
        self.bottleneck, self.flow, self.interval_s = bottleneck, flow, interval_s
        self.size, self.ecn = size, ecn
        self.numbers = count()
        bottleneck.at(bottleneck.now, self._send)

    def _send(self) -> None:
        self.bottleneck.send([datagram(self.flow, next(self.numbers), self.size, ecn=self.ecn)])
        self.bottleneck.at(self.bottleneck.now + self.interval_s, self._send)


class Responsive:
    """Sends like a TCP: a window that grows, and is halved once per round trip with a signal.

    A gap in the numbers of arriving frames, or a second without an ACK, means a loss.

    Args:
        bottleneck: the bottleneck.
        flow: the flow of its frames.
        rtt_s: the round-trip time without queueing.
        size: the bytes of a frame.
        ecn: the ECN codepoint of its frames.

    Attributes:
        losses: the number of lost frames.
        marked: the number of marked frames.
    """

    def __init__(
        self, bottleneck: Bottleneck, flow: int, rtt_s: float, size: int = FULL_FRAME, ecn: int = 0
    ) -> None:
        self.bottleneck, self.flow, self.rtt_s = bottleneck, flow, rtt_s
        self.size, self.ecn = size, ecn
        self.window = CongestionWindow(RENO_BETA)
        self.next = self.expected = 0
        self.losses = self.marked = 0
        self.acked_at = bottleneck.now
        bottleneck.listeners[flow] = self._arrived
        bottleneck.at(bottleneck.now, self._fill)
        bottleneck.at(bottleneck.now + 1, self._watch)

    def _arrived(self, number: int, marked: bool) -> None:
        acked_at = self.bottleneck.now + self.rtt_s
        self.bottleneck.at(acked_at, partial(self._acknowledged, number, marked))

    def _acknowledged(self, number: int, marked: bool) -> None:
        self.acked_at = self.bottleneck.now
        self.losses += number - self.expected
        self.marked += marked
        signal = marked or number > self.expected
        if not (signal and self.window.reduce(number, self.next)):
            self.window.grow()
        self.expected = number + 1
        self._fill()

    def _fill(self) -> None:
        quota = int(self.window.size) - (self.next - self.expected)
        numbers = range(self.next, self.next + max(quota, 0))
        self.next += len(numbers)
        if numbers:
            self.bottleneck.send([datagram(self.flow, n, self.size, ecn=self.ecn) for n in numbers])

    def _watch(self) -> None:
        if self.bottleneck.now - self.acked_at >= 1:
            self.losses += self.next - self.expected
            self.window.time_out()
            self.expected = self.next
            self.acked_at = self.bottleneck.now
            self._fill()
        self.bottleneck.at(self.bottleneck.now + 1, self._watch)
