"""Two sessions that talk to each other, and one that hears any bytes.

The input chooses the HELLO of each side, and then steps: time passes, frames are sent, what was
sent is delivered in pieces, or a stranger's bytes are fed to one side.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from fuzz.source import Source, pieces
from fuzz.targets.decoder import GREETING, v1, v2
from tests.support.packets import TCP, UDP
from tests.support.superframes import Super
from vknet.framing import FRAME_LIMIT_V2, Hello, Wire, encode_frames
from vknet.packet.virtio import ALL_OFFLOADS, NO_OFFLOADS, Offload, header_kinds
from vknet.wire.session import Session

if TYPE_CHECKING:
    from vknet.packet.virtio import AnyFrame
    from vknet.wire.session import Received

MAX_SIZE: Final = 4000
WORDS: Final = (b"+xiZ\1\0\0\0", *(bytes([kind]) + b"VK2" for kind in range(8)), b"\x08\0\0\0")

LIMITS: Final = (65664, 1514, 60, 8320)
OFFLOADS: Final = (
    ALL_OFFLOADS, NO_OFFLOADS, Offload.CSUM, Offload.CSUM | Offload.TSO4, Offload.TSO4,
)  # fmt: skip
STEP_S: Final = (0.0, 0.3, 2.0, 6.0, 20.0)
CONTROL_TYPES: Final = 6

# A checksum alone, TSO4, TSO6, and USO.
OFFLOADED: Final = tuple(
    Super(b"x" * 200, size, version, protocol).frame()
    for size, version, protocol in ((0, 4, UDP), (100, 4, TCP), (100, 6, TCP), (100, 4, UDP))
)


class Side:
    """A session, the bytes on their way from it, and what it was told."""

    def __init__(self, ours: Hello, wire: Wire, *, adopt: bool) -> None:
        self.ours = ours
        self.session = Session(ours, wire, adopt_timeout=adopt)
        self.sent: deque[bytes] = deque()
        self.expected: deque[bytes] = deque()

    def flush(self, now: float) -> None:
        """Send the control blocks that wait."""
        if self.session.has_data_to_send:
            data = self.session.data_to_send()
            check_controls(data)
            self.sent.append(data)
            self.session.on_sent(now)
        assert not self.session.has_data_to_send

    def send(self, frames: list[AnyFrame], now: float) -> None:
        """Send frames as a link does, once the session says how."""
        terms = self.session.negotiated
        if terms is None:
            return
        self.flush(now)
        encoded = encode_frames(frames, terms.frame_limit, header_kinds(terms.offloads))
        self.sent.append(encoded.data)
        self.session.on_sent(now)
        self.expected.append(bytes([encoded.frames % 256]) + encoded.size.to_bytes(8, "little"))


def check_controls(data: bytes) -> None:
    """Assert that control blocks are whole, and at most one of each type."""
    found: Counter[int] = Counter()
    while data:
        assert data[1:4] == b"VK2"
        found[data[0]] += 1
        data = data[8 + int.from_bytes(data[4:8], "little") :]
    assert max(found.values(), default=0) <= 1, "more than one of a type"
    assert len(found) <= CONTROL_TYPES


def hello_from(source: Source) -> Hello:
    return Hello(
        "vknet fuzz",
        "tap0",
        source.choice(LIMITS),
        source.choice((None, 1500, 9000, 1280, 68)),
        mtu_fixed=bool(source.number() & 1),
        timeout=source.choice((15.0, 1.0, 60.0)),
        offloads=source.choice(OFFLOADS),
        window=source.choice((None, 0, 65536)),
        ack_time=bool(source.number() & 1),
    )


HELLOS: Final = bytes(7) + bytes([1, 2, 0, 1, 0, 1, 1])


def seeds() -> dict[str, bytes]:
    strange = {
        "a shell": b"Password: ",
        "a hello": GREETING,
        "frames": v1(b"a" * 60, b"b"),
        "a ping": GREETING + v2(4, b"token..." ) + v2(3, bytes(12)),
        "bye": v2(6, b"bye"),
    }  # fmt: skip
    steps = {
        "talk": b"\2\0\2\1" + b"\3\0\1\2\3\0\3\1" * 6,
        "pings": b"\2\0\2\1" + b"\0\2\2\0\2\1\1\3" * 4,
        "silence": b"\2\0\2\1\0\4\0\4\0\4",
        "offloads": b"\2\0\2\1\3\0\7\2\0\3\1\7\2\1",
        "in pieces": b"\2\0\2\x12\3\0\3\2\x13\2\x24",
    }
    return {
        **{name: HELLOS + b"\0" + script for name, script in steps.items()},
        **{name: HELLOS + b"\0\4\0\0" + data for name, data in strange.items()},
    }


def run(data: bytes) -> None:
    source = Source(data)
    # The remote half knows that its client speaks v2; it adopts the client's timeout.
    sides = (
        Side(hello_from(source), Wire.AUTO, adopt=False),
        Side(hello_from(source), Wire.V2, adopt=True),
    )
    now = float(source.number())
    sides[1].session.start_keepalive(now)
    for _ in range(20):
        if not source:
            break
        step = source.number() % 5
        if step == 0:
            now += source.choice(STEP_S)
            for side in sides:
                check_time(side, now)
        elif step == 1:
            for side in sides:
                side.session.check_keepalive(now)
                side.flush(now)
        elif step == 2:
            number = source.number()
            deliver(sides[number & 1], sides[~number & 1], number >> 4, now)
        elif step == 3:
            number = source.number()
            choose = source.number()
            frames: list[AnyFrame] = [bytes([choose]) * size for size in (60, 300)[: choose & 3]]
            frames += OFFLOADED[: choose >> 2 & 7]
            sides[number & 1].send(frames, now)
        else:
            number = source.number()
            hear(sides[number & 1], source, now)
            return
    for side, other in (sides, sides[::-1]):
        deliver(side, other, 4, now)
        check_terms(side, other)
        check_farewell(side)


def deliver(source: Side, sink: Side, pattern: int, now: float) -> None:
    """Carry all that one side has sent; nothing of it breaks the protocol."""
    source.flush(now)
    data = b"".join(source.sent)
    source.sent.clear()
    frames = size = 0
    for piece in pieces(data, pattern, 3):
        received = sink.session.feed(piece, now)
        assert received.error is None, f"a peer of ours broke the protocol: {received.error}"
        frames += sum(map(len, received.batches))
        size += received.size
        check_received(received)
    sent = list(source.expected)
    source.expected.clear()
    assert size == sum(int.from_bytes(one[1:], "little") for one in sent), "bytes were lost"
    assert frames % 256 == sum(one[0] for one in sent) % 256, "frames were lost"


def check_received(received: Received) -> None:
    assert received.round_trip is None or received.round_trip >= 0
    assert all(len(batch) for batch in received.batches)


def check_time(side: Side, now: float) -> None:
    """Assert that the next check is not in the past, and that one at its time has an effect."""
    silent = side.session.check_keepalive(now)
    assert silent is None or silent >= side.session.ours.timeout
    due = side.session.next_check(now)
    assert due >= now
    if silent is None and due == now:
        # A check at once would have nothing to do, and ask for the same time again.
        assert side.session.has_data_to_send


def check_terms(side: Side, other: Side) -> None:
    terms, others = side.session.negotiated, other.session.negotiated
    if terms is None or others is None:
        return
    assert terms.mtu == others.mtu
    assert terms.frame_limit == other.ours.frame_limit
    assert terms.offloads & ~other.ours.offloads == NO_OFFLOADS
    assert side.session.version == 2


def check_farewell(side: Side) -> None:
    last = side.session.farewell("the end\n")
    assert last == b"" or last.startswith(b"\6VK2")


def hear(side: Side, source: Source, now: float) -> None:
    """Feed a stranger's bytes; whatever they are, the answers are few and well formed."""
    pattern = source.number()
    stream = source.rest()
    answers = 0
    for piece in pieces(stream, pattern, 8):
        received = side.session.feed(piece, now)
        check_received(received)
        if received.hello is not None:
            assert side.session.negotiated is not None
        if side.session.has_data_to_send:
            data = side.session.data_to_send()
            check_controls(data)
            answers += len(data)
        if received.error is not None:
            assert str(received.error).isprintable()
            assert side.session.feed(b"+xiZ\1\0\0\0a", now).size == 0
            break
    # A HELLO, and a PONG for each PING of the same size.
    assert answers <= 4096 + len(stream)
    terms = side.session.negotiated
    assert terms is None or 1 <= terms.frame_limit <= FRAME_LIMIT_V2
