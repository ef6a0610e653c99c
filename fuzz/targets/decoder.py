"""The decoder: any stream in any pieces, compared with a reader of docs/protocol.md.

The input is: the wire and whether offloads are taken, the frame limit that was promised, how the
stream is cut, and the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fuzz.source import Source, pieces
from vknet.errors import RemoteProtocolError
from vknet.framing import (
    FRAME_LIMIT_V1,
    FRAME_LIMIT_V2,
    Ack,
    Bye,
    Control,
    Decoder,
    Hello,
    Ping,
    Pong,
    Wire,
    encode_control,
    encode_frames,
)
from vknet.packet.virtio import ALL_OFFLOADS, NO_OFFLOADS, Offload, OffloadFrame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.virtio import AnyFrame

MAX_SIZE: Final = 9000
WORDS: Final = (
    *(b"+xiZ" + n.to_bytes(4, "little") for n in (1, 20, 60, 8320, 8321)),
    *(bytes([kind]) + b"VK2" for kind in (1, 2, 3, 4, 5, 6, 7, 0x80)),
    *(n.to_bytes(4, "little") for n in (8, 12, 24, 4096, 65664, 65674)),
)

WIRES: Final = (Wire.V1, Wire.AUTO, Wire.V2)
PROMISES: Final = (1, 100, FRAME_LIMIT_V1, FRAME_LIMIT_V2)
HEADER_SIZE: Final = 8
HOLD_MAX: Final = HEADER_SIZE + FRAME_LIMIT_V2 + 10

GREETING: Final = encode_control(
    Hello("vknet 1", "tap0", 65664, 1500, mtu_fixed=False, timeout=15, offloads=ALL_OFFLOADS)
)
# What a HELLO offers, and the gso_types that it permits.
GSO_TYPES: Final = frozenset((0, 1, 4, 5, 0x81, 0x84))
OFFERS: Final = (
    (NO_OFFLOADS, frozenset[int]()),
    (ALL_OFFLOADS, GSO_TYPES),
    (Offload.CSUM | Offload.TSO4, frozenset((0, 1))),
    (Offload.CSUM | Offload.TSO6 | Offload.TSO_ECN, frozenset((0, 4, 0x84))),
)

OFFLOADED: Final = b"\1\0" + bytes(22)


def v1(*frames: bytes) -> bytes:
    """Encode frames as docs/protocol.md says."""
    return b"".join(b"+xiZ" + len(frame).to_bytes(4, "little") + frame for frame in frames)


def v2(kind: int, payload: bytes) -> bytes:
    """Encode a control block as docs/protocol.md says."""
    return bytes([kind]) + b"VK2" + len(payload).to_bytes(4, "little") + payload


def seeds() -> dict[str, bytes]:
    streams = {
        "frames": v1(b"a" * 60, b"b", b"c" * 1514),
        "uniform frames": v1(*(b"u" * 60,) * 20),
        "longest frame of v1": v1(b"l" * FRAME_LIMIT_V1),
        "hello": GREETING + v1(b"a" * 60),
        "late hello": v1(b"a" * 60) + GREETING,
        "acks": GREETING + v2(3, bytes(8)) + v2(3, bytes(12)) + v2(4, bytes(8)) + v2(5, bytes(8)),
        "offload": GREETING + v2(2, OFFLOADED) + v2(2, OFFLOADED + b"x" * 40),
        "offload of each type": GREETING
        + b"".join(v2(2, bytes([1, kind]) + OFFLOADED[2:]) for kind in (0, 1, 4, 0x84, 5, 9)),
        "uniform offload": GREETING + v2(2, OFFLOADED + b"y" * 40) * 17,
        "unknown": GREETING + v2(7, b"?" * 40) + v2(0x7F, b"?") + v1(b"z"),
        "too new": GREETING + v2(0x80, b"?"),
        "bye": v2(6, b"no such interface"),
        "shell": b"Last login: Thu Jan  1 00:00:00 1970\r\n",
        "cut short": v1(b"a" * 60)[:-1],
        "empty frame": v1(b""),
    }
    return {
        f"{name} {head.hex()}": head + stream
        for name, stream in streams.items()
        for head in (b"\0\2\1", b"\5\3\2", b"\6\3\0", b"\x0a\3\0", b"\x0d\3\1")
    }


def flat(batches: Sequence[Sequence[AnyFrame]]) -> list[tuple[bool, bytes]]:
    """Return the frames of batches, each with whether it is an offload frame."""
    return [
        (True, bytes(frame.data)) if isinstance(frame, OffloadFrame) else (False, bytes(frame))
        for batch in batches
        for frame in batch
    ]


def decode(
    decoder: Decoder, chunks: list[bytes]
) -> tuple[list[tuple[bool, bytes]], list[Control], bool, int]:
    """Feed a stream.

    Returns:
        Its frames, its controls, whether it broke the protocol, and the bytes that are held.
    """
    frames: list[tuple[bool, bytes]] = []
    controls: list[Control] = []
    failed = False
    for chunk in chunks:
        decoded = decoder.feed(chunk)
        assert all(len(batch) for batch in decoded.batches), "an empty batch"
        found = flat(decoded.batches)
        assert sum(len(data) - 10 * offload for offload, data in found) == decoded.size
        assert not failed or not (found or decoded.controls), "a broken stream went on"
        frames += found
        controls += decoded.controls
        failed = decoded.error is not None
        assert decoder.held <= HOLD_MAX, f"{decoder.held} bytes held"
        if decoded.error is not None:
            assert str(decoded.error).isprintable()
            assert decoder.held == 0
    return frames, controls, failed, decoder.held


def read(
    stream: bytes, wire: Wire, promised: int, permitted: frozenset[int]
) -> tuple[list[tuple[bool, bytes]], list[Control], bool, int]:
    """Return what `decode` does, by a second reader of the protocol."""
    frames: list[tuple[bool, bytes]] = []
    controls: list[Control] = []
    greeted = False
    at = 0
    while len(stream) - at >= HEADER_SIZE:
        kind, mark = stream[at], stream[at + 1 : at + 4]
        length = int.from_bytes(stream[at + 4 : at + 8], "little")
        payload = stream[at + 8 : at + 8 + length]
        whole = len(payload) == length
        broken = frames, controls, True, 0
        if stream[at : at + 4] == b"+xiZ":
            if not 1 <= length <= (promised if greeted else FRAME_LIMIT_V1):
                return broken
            if whole:
                frames.append((False, payload))
        elif mark != b"VK2" or not may_come(kind, wire, greeted=greeted, started=at > 0):
            return broken
        elif kind == 2:
            if not permitted or not 24 <= length <= promised + 10:
                return broken
            if whole:
                if payload[0] == 1 and payload[1] in GSO_TYPES - permitted:
                    return broken
                frames.append((True, payload))
        elif kind >= 0x80 or not 1 <= length <= {3: 12, 4: 8, 5: 8}.get(kind, 4096):
            return broken
        elif whole:
            try:
                control = read_control(kind, payload)
            except (RemoteProtocolError, KeyError):
                return broken
            if isinstance(control, Hello):
                if greeted:
                    return broken
                greeted = True
            if control is not None:
                controls.append(control)
        if not whole:
            break
        at += 8 + length
    return frames, controls, False, len(stream) - at


def may_come(kind: int, wire: Wire, *, greeted: bool, started: bool) -> bool:
    """Whether a control block of this type may come now."""
    if wire is Wire.V1 or greeted:
        return greeted
    return kind in (1, 6) and not (started and wire is Wire.AUTO)


def read_control(kind: int, payload: bytes) -> Control | None:
    """Read a control block; a wrong size of a number is a KeyError."""
    if kind == 1:
        return Hello.from_json(payload)
    if kind == 6:
        return Bye("")
    if kind not in (3, 4, 5):
        return None
    size = {8: "number", 12: "number and time" if kind == 3 else ""}[len(payload)]
    if not size:
        raise KeyError(12)
    number = int.from_bytes(payload[:8], "little")
    if kind == 3:
        return Ack(number, int.from_bytes(payload[8:], "little") if payload[8:] else None)
    return Ping(number) if kind == 4 else Pong(number)


def blank(controls: list[Control]) -> list[Control]:
    """Leave out the text of a BYE, which is escaped."""
    for control in controls:
        if isinstance(control, Bye):
            assert control.reason.isprintable()
    return [Bye("") if isinstance(control, Bye) else control for control in controls]


def run(data: bytes) -> None:
    source = Source(data)
    head = source.number()
    wire = WIRES[head & 3] if head & 3 < 3 else Wire.AUTO
    offloads, permitted = OFFERS[head >> 2 & 3]
    promised = source.choice(PROMISES)
    pattern = source.number()
    stream = source.rest()
    whole = decode(Decoder(wire, promised, offloads=offloads), [stream])
    cut = decode(Decoder(wire, promised, offloads=offloads), [*pieces(stream, pattern, 12)])
    assert cut == whole, "pieces change what is decoded"
    frames, controls, failed, held = whole
    expected = read(stream, wire, promised, permitted)
    assert (frames, blank(controls), failed, held) == expected, "not what the protocol says"
    plain = [data for is_offload, data in frames if not is_offload]
    encoded = encode_frames(plain, FRAME_LIMIT_V2)
    assert encoded.data == v1(*plain)
    if wire is Wire.V1 and not failed:
        assert encoded.data == stream[: len(stream) - held]
    for control in controls:
        if not isinstance(control, Hello | Bye):
            assert Decoder(Wire.V2).feed(GREETING + encode_control(control)).controls[1] == control
