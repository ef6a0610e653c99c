"""The wire: blocks, and how they become bytes, without any I/O (docs/protocol.md).

A block is eight bytes of header and a payload; all integers are little-endian.

    v1, a frame        u32 magic 0x5A69782B    u32 length    the frame
    v2, a control      u8 type, "VK2"          u32 length    what the type says
        of which OFFLOAD, a frame with its offload header (vknet.packet.virtio) before it

This half writes; `vknet.wire.decoder` is the half that reads.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from vknet.errors import LocalProtocolError
from vknet.packet.gso import segment
from vknet.packet.uniform_batch import UniformBatch
from vknet.packet.virtio import HEADER_SIZE as OFFLOAD_HEADER_SIZE
from vknet.packet.virtio import OffloadFrame, validate
from vknet.wire.hello import HELLO_LIMIT, Hello

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.virtio import AnyFrame

__all__ = [
    "FRAME_LIMIT_V1",
    "FRAME_LIMIT_V2",
    "MAGIC",
    "Ack",
    "Block",
    "Bye",
    "Control",
    "Encoded",
    "Frame",
    "Ping",
    "Pong",
    "Wire",
    "encode_control",
    "encode_frames",
]

Frame: TypeAlias = bytes | memoryview
"""One whole Ethernet frame, from the destination address on, without preamble and FCS."""

MAGIC: Final = 0x5A69782B
HEADER: Final = struct.Struct("<II")
HEADER_SIZE: Final = HEADER.size

FRAME_LIMIT_V1: Final = 8192 + 128
"""What the program of 2008 holds (its MAXPKT); it closes on anything longer."""

FRAME_LIMIT_V2: Final = 65536 + 128
"""Any frame that an interface with the largest MTU can carry, with room for tags."""

# The last three bytes of a control block's first word, above the type.
CONTROL_MARK: Final = int.from_bytes(b"\0VK2", "little")
TYPE_MASK: Final = 0xFF

HELLO: Final = 0x01
OFFLOAD: Final = 0x02
ACK: Final = 0x03
PING: Final = 0x04
PONG: Final = 0x05
BYE: Final = 0x06

OFFLOAD_WORD: Final = CONTROL_MARK | OFFLOAD

U64: Final = struct.Struct("<Q")
NUMBERED_BLOCK: Final = struct.Struct("<IIQ")
TIMED_ACK: Final = struct.Struct("<QI")
TIMED_ACK_BLOCK: Final = struct.Struct("<IIQI")
BYE_LIMIT: Final = 1024

# Where the parts of a batch have so many bytes on average, it is not copied to be in one piece: to
# write them one after the other takes less.
LARGE: Final = 4096


class Wire(enum.Enum):
    """What a side is to speak."""

    V1 = "v1"
    """Frames only, as in 2008, and at once: what `-S` speaks to a client that left no mark, and a
    client whose user knows that the peer is such a program."""
    AUTO = "auto"
    """Either: v2 if the very first block is a HELLO, v1 for good otherwise.  Nothing is sent before
    that block.  The client's side."""
    V2 = "v2"
    """The peer is known to speak v2: a HELLO has to come, though frames may come before it."""


@dataclass(frozen=True, slots=True)
class Ack:
    """So many bytes of frames, in all, have been handed to the sender's endpoint.

    Attributes:
        total: of bytes.
        at: when this was written, on the sender's clock (`vknet.congestion.reverse_delay.stamp`);
            None if it does not say.
    """

    total: int
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a PONG with the same token."""

    token: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a PING."""

    token: int


@dataclass(frozen=True, slots=True)
class Bye:
    """The sender ends the link, and why, for the user."""

    reason: str


NUMBERED: Final[dict[int, type[Ack | Ping | Pong]]] = {ACK: Ack, PING: Ping, PONG: Pong}
KIND_OF: Final = {block: kind for kind, block in NUMBERED.items()}

Control: TypeAlias = Hello | Ack | Ping | Pong | Bye
Block: TypeAlias = memoryview | OffloadFrame | UniformBatch | Control


class Encoded(NamedTuple):
    """A batch of frames as it goes over the wire."""

    parts: list[Frame]
    """In order: one buffer of small frames, and large ones as they are, which are good for as long
    as the frames."""
    frames: int
    """How many frames are in it."""
    size: int
    """Their bytes, without headers."""
    refused: int
    """How many were empty or over the limit, and were left out."""
    misfits: tuple[str, ...] = ()
    """Why others were left out: the reasons that `vknet.packet.virtio.validate` gave, one a
    frame."""

    @property
    def data(self) -> bytes:
        """All of it in one buffer."""
        return b"".join(self.parts)


def encode_frames(
    frames: Sequence[AnyFrame], limit: int, kinds: frozenset[int] = frozenset()
) -> Encoded:
    """Encode a batch.

    Args:
        frames: in order.
        limit: the longest frame the peer takes, in bytes; one that is longer, or empty, is left
            out.
        kinds: the offload frames the peer takes, as `vknet.packet.virtio.kinds` gives them; what
            others leave undone is done here.
    """
    if isinstance(frames, UniformBatch):
        length = len(frames[0])
        if 0 < length <= limit and (not frames.offload or frames.kind in kinds):
            return _encode_uniform(frames, length)
    parts: list[Frame] = []
    add = parts.append
    pack = HEADER.pack
    size = taken = refused = 0
    misfits: list[str] = []
    for frame in frames:
        if not isinstance(frame, OffloadFrame):
            length = len(frame)
            if 0 < length <= limit:
                add(pack(MAGIC, length))
                add(frame)
                size += length
                taken += 1
            else:
                refused += 1
            continue
        data = frame.data
        length = len(data) - OFFLOAD_HEADER_SIZE
        # `OffloadFrame.kind`, which would be a call for every frame.
        if length <= limit and data[0] | data[1] << 8 in kinds:
            add(pack(OFFLOAD_WORD, OFFLOAD_HEADER_SIZE + length))
            add(data)
            size += length
            taken += 1
        elif isinstance(offsets := validate(data), str):
            misfits.append(offsets)
        else:
            plain = encode_frames(segment(frame, offsets), limit)
            parts += plain.parts
            size += plain.size
            taken += plain.frames
            refused += plain.refused
    if size < LARGE * len(parts):
        parts = [b"".join(parts)]
    return Encoded(parts, taken, size, refused, tuple(misfits))


def _encode_uniform(train: UniformBatch, length: int) -> Encoded:
    if train.offload:
        header = HEADER.pack(OFFLOAD_WORD, OFFLOAD_HEADER_SIZE + length)
    else:
        header = HEADER.pack(MAGIC, length)
    count = len(train)
    return Encoded([header + header.join(train.datas)], count, count * length, 0)


def encode_control(control: Control) -> bytes:
    """Make the block of a control message.

    Raises:
        LocalProtocolError: a HELLO over `HELLO_LIMIT` bytes, a number that is no u64, or an ACK's
            time that is no u32.
    """
    match control:
        case Hello():
            kind, payload = HELLO, control.to_json()
        case Ack(total, at) if at is not None:
            return _timed_ack(total, at)
        case Ack(number) | Ping(number) | Pong(number):
            return _numbered(KIND_OF[type(control)], number)
        case Bye(reason):
            text = reason.encode("utf-8", "replace")[:BYE_LIMIT]
            kind, payload = BYE, text.decode("utf-8", "ignore").encode() or b"-"
    if len(payload) > HELLO_LIMIT:
        raise LocalProtocolError(f"a HELLO of {len(payload)} bytes; {HELLO_LIMIT} is the most")
    return HEADER.pack(CONTROL_MARK | kind, len(payload)) + payload


def _numbered(kind: int, number: int) -> bytes:
    if not 0 <= number < 2**64:
        raise LocalProtocolError(f"a u64 is needed, not {number}")
    return NUMBERED_BLOCK.pack(CONTROL_MARK | kind, U64.size, number)


def _timed_ack(total: int, at: int) -> bytes:
    if not (0 <= total < 2**64 and 0 <= at < 2**32):
        raise LocalProtocolError(f"a u64 and a u32 are needed, not {total} and {at}")
    return TIMED_ACK_BLOCK.pack(CONTROL_MARK | ACK, TIMED_ACK.size, total, at)
