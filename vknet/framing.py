"""The wire: bytes to blocks and back, without any I/O (docs/protocol.md).

A block is eight bytes of header and a payload; all integers are little-endian.

    v1, a frame        u32 magic 0x5A69782B    u32 length    the frame
    v2, a control      u8 type, "VK2"          u32 length    what the type says
        of which OFFLOAD, a frame with its offload header (vknet.offload) before it

Theory.  The decoder holds at most one unfinished block.  It looks at a header before it keeps a
byte of the payload, so what a peer can make it hold is bounded by the limit in force.  It never
searches for the next header: a stream that is wrong once is wrong for good, and every later call
raises the same error.  How the stream was chopped into calls never shows in the frames that come
out, only in which of them come together, as a train.

Whether control blocks may appear is the `Wire` the side was told to speak; no frame can forge one,
since they are known by their header and never by what a frame holds.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from vknet.errors import LocalProtocolError, RemoteProtocolError, printable
from vknet.hello import HELLO_LIMIT, Hello
from vknet.offload import HEADER_SIZE as OFFLOAD_HEADER_SIZE
from vknet.offload import OFFLOAD_MIN, OffloadFrame, examine
from vknet.segmentation import segment
from vknet.train import TRAIN_MAX, TRAIN_MIN, TRAIN_SIZE, Train, leading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.offload import AnyFrame

__all__ = [
    "FRAME_LIMIT_V1",
    "FRAME_LIMIT_V2",
    "MAGIC",
    "Ack",
    "Block",
    "Bye",
    "Control",
    "Decoder",
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
CRITICAL: Final = 0x80
"""From this type on an unknown block ends the link; below it, it is skipped."""

OFFLOAD_WORD: Final = CONTROL_MARK | OFFLOAD

# Of an offload header: what `OffloadFrame.kind` looks at.
KIND_SIZE: Final = 2

U64: Final = struct.Struct("<Q")
NUMBERED_BLOCK: Final = struct.Struct("<IIQ")
TIMED_ACK: Final = struct.Struct("<QI")
TIMED_ACK_BLOCK: Final = struct.Struct("<IIQI")
BYE_LIMIT: Final = 1024
SKIP_LIMIT: Final = 4096

# Where the parts of a batch have so many bytes on average, it is not copied to be in one piece: to
# write them one after the other takes less.
LARGE: Final = 4096

# How much of a stream that is no vknet's an error shows.
SHOWN: Final = 64


class Wire(enum.Enum):
    """What a side is to speak."""

    V1 = "v1"
    """Frames only, as in 2008: what `-S` speaks to a client that left no mark."""
    AUTO = "auto"
    """Either: v2 if the very first block is a HELLO, v1 for good otherwise.  The client's side."""
    V2 = "v2"
    """The peer is known to speak v2: a HELLO has to come, though frames may come before it."""


@dataclass(frozen=True, slots=True)
class Ack:
    """So many bytes of frames, in all, have been handed to the sender's endpoint.

    Attributes:
        total: of bytes.
        at: when this was written, on the sender's clock (`vknet.reverse.stamp`); None if it does
            not say.
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
Block: TypeAlias = memoryview | OffloadFrame | Train | Control


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
    """Why others were left out: the reasons that `vknet.offload.examine` gave, one a frame."""

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
        kinds: the offload frames the peer takes, as `vknet.offload.kinds` gives them; what others
            leave undone is done here.
    """
    if isinstance(frames, Train):
        length = len(frames[0])
        if 0 < length <= limit and (not frames.offload or frames.kind in kinds):
            return _encode_train(frames, length)
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
        elif isinstance(layout := examine(data), str):
            misfits.append(layout)
        else:
            plain = encode_frames(segment(frame, layout), limit)
            parts += plain.parts
            size += plain.size
            taken += plain.frames
            refused += plain.refused
    if size < LARGE * len(parts):
        parts = [b"".join(parts)]
    return Encoded(parts, taken, size, refused, tuple(misfits))


def _encode_train(train: Train, length: int) -> Encoded:
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


def _odd_length(kind: int, length: int) -> str:
    if kind == ACK:
        return f"an ACK of {length} bytes, neither {U64.size} nor {TIMED_ACK.size}"
    return f"a PING or PONG of {length} bytes, not {U64.size}"


class Decoder:
    """The receiving half of the wire.

    Args:
        wire: which blocks may come.
        frame_limit: the longest frame this side promises to take in its own HELLO, in bytes; it
            holds from the peer's HELLO on.  Until then it is `FRAME_LIMIT_V1`.
        offload: this side's HELLO names an offload, so that OFFLOAD may come.

    Attributes:
        frame_bytes: of all frames so far, without the headers of blocks and of offloads.
    """

    def __init__(
        self, wire: Wire, frame_limit: int = FRAME_LIMIT_V2, *, offload: bool = False
    ) -> None:
        self.frame_bytes = 0
        self._wire = wire
        self._limit = FRAME_LIMIT_V1
        self._promised = frame_limit
        self._offload = offload
        self._offload_limit = 0
        self._greeted = False
        self._started = False
        self._only_frames = True
        self._tail = bytearray()
        self._error: RemoteProtocolError | None = None

    def feed(self, data: bytes | memoryview, blocks: list[Block]) -> bool:
        """Take in what the stream brought and append the blocks that are now whole to `blocks`.

        The frames among them are views of `data`, or of a joined copy where a block came in pieces;
        they stay good for as long as `data` does.  Many small ones that are alike may come as one
        `Train`, of copies.

        Returns:
            Whether all of them are single frames.

        Raises:
            RemoteProtocolError: the peer broke the protocol.  The blocks before it have been
                appended; the error is final.
        """
        if self._error is not None:
            raise self._error
        self._only_frames = True
        try:
            self._feed(data, blocks)
        except RemoteProtocolError as exc:
            self._error = exc
            self._tail.clear()
            raise
        return self._only_frames

    def end(self) -> None:
        """The stream has ended.

        Raises:
            RemoteProtocolError: inside a block.
        """
        if self._error is not None:
            raise self._error
        if not self._tail:
            return
        if self._started or len(self._tail) >= HEADER_SIZE:
            self._error = RemoteProtocolError(
                f"the stream ended inside a block, {len(self._tail)} bytes into it"
            )
        else:
            self._error = self._not_a_block(bytes(self._tail[:SHOWN]))
        self._tail.clear()
        raise self._error

    @property
    def held(self) -> int:
        """Bytes of an unfinished block now held; at most a header and the limit in force."""
        return len(self._tail)

    def _feed(self, data: bytes | memoryview, blocks: list[Block]) -> None:
        view = memoryview(data)
        pos = self._finish_tail(view, blocks) if self._tail else 0
        end = len(view)
        unpack = HEADER.unpack_from
        # Two blocks of one length may be the first of a train.  Where that was wrong once, it is
        # not tried again: a stream that is made to look so must not take long.
        seen = 0
        may_be_train = True
        while end - pos >= HEADER_SIZE:
            word, length = unpack(view, pos)
            if word == OFFLOAD_WORD:
                if not OFFLOAD_MIN <= length <= self._offload_limit:
                    self._check(word, length, view[pos : pos + SHOWN])
            elif word != MAGIC or not 0 < length <= self._limit:
                self._check(word, length, view[pos : pos + SHOWN])
            start = pos + HEADER_SIZE
            stop = start + length
            if stop > end:
                break
            if length == seen and may_be_train and length <= TRAIN_SIZE:
                taken = self._take_train(view[pos:], word, length, blocks)
                pos += taken
                may_be_train = taken > 0
                continue
            seen = length
            if word == MAGIC:
                self._started = True
                self.frame_bytes += length
                blocks.append(view[start:stop])
            elif word == OFFLOAD_WORD:
                self.frame_bytes += length - OFFLOAD_HEADER_SIZE
                blocks.append(OffloadFrame(view[start:stop]))
            else:
                self._control(word & TYPE_MASK, bytes(view[start:stop]), blocks)
            pos = stop
        self._tail += view[pos:]

    def _take_train(self, view: memoryview, word: int, length: int, blocks: list[Block]) -> int:
        """Take the train that begins with this block, which has been checked; its bytes, or 0."""
        size = HEADER_SIZE + length
        count = min(len(view) // size, TRAIN_MAX)
        if count < TRAIN_MIN or word not in (MAGIC, OFFLOAD_WORD):
            return 0
        # Offload frames have to be of one kind as well.
        columns = range(HEADER_SIZE if word == MAGIC else HEADER_SIZE + KIND_SIZE)
        count = leading(bytes(view[: count * size]), size, columns)
        if count < TRAIN_MIN:
            return 0
        taken = count * size
        payloads = struct.iter_unpack(f"{HEADER_SIZE}x{length}s", view[:taken])
        blocks.append(Train([payload for (payload,) in payloads], offload=word == OFFLOAD_WORD))
        self._only_frames = False
        if word == MAGIC:
            self._started = True
            self.frame_bytes += count * length
        else:
            self.frame_bytes += count * (length - OFFLOAD_HEADER_SIZE)
        return taken

    def _finish_tail(self, view: memoryview, blocks: list[Block]) -> int:
        """Complete the unfinished block from the start of `view`; how many bytes that took."""
        tail = self._tail
        pos = min(max(HEADER_SIZE - len(tail), 0), len(view))
        tail += view[:pos]
        if len(tail) < HEADER_SIZE:
            return pos
        word: int
        length: int
        word, length = HEADER.unpack_from(tail)
        if len(tail) - pos < HEADER_SIZE:
            self._check(word, length, bytes(tail) + bytes(view[pos : pos + SHOWN]))
        missing = HEADER_SIZE + length - len(tail)
        tail += view[pos : pos + missing]
        pos = min(pos + missing, len(view))
        if len(tail) == HEADER_SIZE + length:
            # Given away as it is: a copy of each long frame is what it would cost.
            payload = memoryview(tail)[HEADER_SIZE:]
            self._tail = bytearray()
            if word == MAGIC:
                self._started = True
                self.frame_bytes += length
                blocks.append(payload)
            elif word == OFFLOAD_WORD:
                self.frame_bytes += length - OFFLOAD_HEADER_SIZE
                blocks.append(OffloadFrame(payload))
            else:
                self._control(word & TYPE_MASK, bytes(payload), blocks)
        return pos

    def _check(self, word: int, length: int, shown: bytes | memoryview) -> None:
        """Check a header before a byte of its payload is kept."""
        least = 1
        if word == MAGIC:
            limit = self._limit
        elif word == OFFLOAD_WORD and self._greeted:
            if not self._offload:
                raise RemoteProtocolError("the peer sent OFFLOAD, which this side does not take")
            least, limit = OFFLOAD_MIN, self._offload_limit
        elif word & ~TYPE_MASK == CONTROL_MARK and self._may_control(word & TYPE_MASK):
            limit = self._control_limit(word & TYPE_MASK)
        else:
            raise self._not_a_block(bytes(shown))
        if not least <= length <= limit:
            raise RemoteProtocolError(
                f"a block of {length} bytes from the peer; it may have {least} to {limit}"
            )

    def _may_control(self, kind: int) -> bool:
        if self._wire is Wire.V1:
            return False
        if self._greeted:
            return True
        first = self._wire is Wire.V2 or not self._started
        return first and kind in (HELLO, BYE)

    def _control_limit(self, kind: int) -> int:
        if kind == ACK:
            return TIMED_ACK.size
        if kind in NUMBERED:
            return U64.size
        if kind in (HELLO, BYE):
            return HELLO_LIMIT
        if kind >= CRITICAL:
            raise RemoteProtocolError(
                f"the peer sent a block of type 0x{kind:02x}, which this vknet does not know:"
                " one of the two is too old"
            )
        return SKIP_LIMIT

    def _control(self, kind: int, payload: bytes, blocks: list[Block]) -> None:
        self._started = True
        self._only_frames = False
        if kind == HELLO:
            if self._greeted:
                raise RemoteProtocolError("the peer sent a second HELLO")
            hello = Hello.from_json(payload)
            self._greeted = True
            self._limit = self._promised
            if self._offload:
                self._offload_limit = OFFLOAD_HEADER_SIZE + self._promised
            blocks.append(hello)
        elif kind == ACK and len(payload) == TIMED_ACK.size:
            blocks.append(Ack(*TIMED_ACK.unpack(payload)))
        elif kind in NUMBERED:
            if len(payload) != U64.size:
                raise RemoteProtocolError(_odd_length(kind, len(payload)))
            (number,) = U64.unpack(payload)
            blocks.append(NUMBERED[kind](number))
        elif kind == BYE:
            blocks.append(Bye(printable(payload, BYE_LIMIT)))

    def _not_a_block(self, shown: bytes) -> RemoteProtocolError:
        what = printable(shown[:SHOWN])
        if self._started:
            return RemoteProtocolError(f'what the peer sent is not a block: "{what}"')
        return RemoteProtocolError(
            f'the remote side began with "{what}", which is not vknet: if that is output of a'
            " shell's start-up file (.bashrc, .profile), let it print only when interactive"
        )
