"""The receiving half of the codec: bytes to frames and control messages, without any I/O.

The format is in docs/protocol.md.  The decoder holds at most one unfinished block.  It checks a
header before it keeps a byte of the payload, so the limit in force bounds what a peer can make it
hold.  It never searches for the next header: a stream that is wrong once stays wrong, and every
later call returns the same error.  How the stream was cut into calls does not show in the frames,
only in which of them come together.

The `Wire` that a side speaks decides whether control blocks may appear.  No frame can forge one: a
control block is known by its header, never by the content of a frame.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vknet.errors import RemoteProtocolError, escaped, shortened
from vknet.packet.uniform_batch import (
    UNIFORM_FRAME_MAX,
    UNIFORM_MAX,
    UNIFORM_MIN,
    UniformBatch,
    count_uniform,
)
from vknet.packet.virtio import (
    KNOWN_KINDS,
    NO_OFFLOADS,
    OFFLOAD_MIN,
    VNET_HEADER_SIZE,
    OffloadFrame,
    header_kinds,
)
from vknet.wire.blocks import (
    ACK,
    BLOCK_HEADER,
    BLOCK_HEADER_SIZE,
    BYE,
    BYE_LIMIT,
    CONTROL_MARK,
    FRAME_LIMIT_V1,
    FRAME_LIMIT_V2,
    HELLO,
    NUMBERED,
    OFFLOAD_WORD,
    TIMED_ACK,
    TYPE_MASK,
    U64,
    V1_MAGIC,
    Ack,
    Bye,
    Wire,
)
from vknet.wire.hello import HELLO_LIMIT, Hello

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.virtio import AnyFrame, Offload
    from vknet.wire.blocks import Control

__all__ = ["Decoded", "Decoder"]

# An unknown block of a lower type is skipped, up to a size in bytes; one of this type or a higher
# one ends the link.
CRITICAL_TYPE: Final = 0x80
SKIP_LIMIT: Final = 4096

# The bytes of an offload header that `OffloadFrame.kind` reads.
KIND_SIZE: Final = 2

# The number of bytes that an error shows of a stream that is not vknet's.
SHOWN: Final = 64


@dataclass(slots=True)
class Decoded:
    """The content of a piece of the stream.

    Attributes:
        batches: frames in order, in batches of at least one.  They are views of the piece, or of a
            joined copy where a block came in several pieces, and are valid for as long as the piece
            is.  A run of small frames that are alike is a `UniformBatch`, of copies.  The offload
            header of a frame is as the peer sent it, unchecked.
        controls: control messages in order.
        size: the bytes of the frames, without headers of any kind.
        error: how the peer broke the protocol behind all of the above; None if it did not.  The
            error is final.
    """

    batches: list[Sequence[AnyFrame]] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    size: int = 0
    error: RemoteProtocolError | None = None


class Decoder:
    """The receiving half of the codec.

    Args:
        wire: which blocks may come.
        frame_limit: the longest frame that this side's own HELLO promises to take, in bytes.  It
            holds from the peer's HELLO on; until then the limit is `FRAME_LIMIT_V1`.
        offloads: those in this side's HELLO: OFFLOAD of these kinds may come.
    """

    def __init__(
        self,
        wire: Wire,
        frame_limit: int = FRAME_LIMIT_V2,
        *,
        offloads: Offload = NO_OFFLOADS,
    ) -> None:
        self._wire = wire
        self._limit = FRAME_LIMIT_V1
        self._promised = frame_limit
        self._offload = bool(offloads)
        # Kinds that are not known are left to the endpoint, which drops them.
        self._refused = KNOWN_KINDS - header_kinds(offloads)
        self._offload_limit = 0
        self._greeted = False
        self._started = False
        self._tail = bytearray()
        self._error: RemoteProtocolError | None = None

    def feed(self, data: bytes | memoryview) -> Decoded:
        """Decode the blocks that a piece of the stream completes."""
        decoded = Decoded()
        if self._error is None:
            try:
                self._feed(data, decoded)
            except RemoteProtocolError as exc:
                self._error = exc
                self._tail.clear()
            if not all(decoded.batches):
                decoded.batches = [batch for batch in decoded.batches if batch]
        decoded.error = self._error
        return decoded

    def end(self) -> None:
        """Note that the stream has ended.

        Raises:
            RemoteProtocolError: it ended inside a block.
        """
        if self._error is not None:
            raise self._error
        if not self._tail:
            return
        if self._started or len(self._tail) >= BLOCK_HEADER_SIZE:
            self._error = RemoteProtocolError(
                f"the stream ended inside a block, {len(self._tail)} bytes into it"
            )
        else:
            self._error = self._not_a_block(bytes(self._tail[:SHOWN]))
        self._tail.clear()
        raise self._error

    @property
    def held(self) -> int:
        """Bytes held of an unfinished block; at most a header and the limit in force."""
        return len(self._tail)

    def _feed(self, data: bytes | memoryview, decoded: Decoded) -> None:
        view = memoryview(data)
        batch: list[AnyFrame] = []
        decoded.batches.append(batch)
        pos = self._finish_tail(view, batch, decoded) if self._tail else 0
        end = len(view)
        unpack = BLOCK_HEADER.unpack_from
        # Two blocks of one length may begin a uniform batch.  One wrong guess ends the guessing, so
        # that a stream made to look uniform costs no more than another.
        previous = 0
        may_be_uniform = True
        while end - pos >= BLOCK_HEADER_SIZE:
            word, length = unpack(view, pos)
            if word == OFFLOAD_WORD:
                if not OFFLOAD_MIN <= length <= self._offload_limit:
                    self._check(word, length, view[pos : pos + SHOWN])
            elif word != V1_MAGIC or not 0 < length <= self._limit:
                self._check(word, length, view[pos : pos + SHOWN])
            start = pos + BLOCK_HEADER_SIZE
            stop = start + length
            if stop > end:
                break
            if length == previous and may_be_uniform and length <= UNIFORM_FRAME_MAX:
                uniform = self._take_uniform(view[pos:], word, length)
                if uniform is None:
                    may_be_uniform = False
                else:
                    batch = []
                    decoded.batches += (uniform, batch)
                    decoded.size += len(uniform) * len(uniform[0])
                    pos += len(uniform) * (BLOCK_HEADER_SIZE + length)
                continue
            previous = length
            if word == V1_MAGIC:
                self._started = True
                decoded.size += length
                batch.append(view[start:stop])
            elif word == OFFLOAD_WORD:
                self._check_kind(view[start] | view[start + 1] << 8)
                decoded.size += length - VNET_HEADER_SIZE
                batch.append(OffloadFrame(view[start:stop]))
            else:
                self._control(word & TYPE_MASK, bytes(view[start:stop]), decoded)
            pos = stop
        self._tail += view[pos:]

    def _take_uniform(self, view: memoryview, word: int, length: int) -> UniformBatch | None:
        """Return the uniform batch that begins with this block, which has been checked."""
        size = BLOCK_HEADER_SIZE + length
        count = min(len(view) // size, UNIFORM_MAX)
        if count < UNIFORM_MIN or word not in (V1_MAGIC, OFFLOAD_WORD):
            return None
        # Offload frames have to be of one kind as well.
        header = BLOCK_HEADER_SIZE if word == V1_MAGIC else BLOCK_HEADER_SIZE + KIND_SIZE
        count = count_uniform(bytes(view[: count * size]), size, range(header))
        if count < UNIFORM_MIN:
            return None
        if word == OFFLOAD_WORD:
            kind = view[BLOCK_HEADER_SIZE : BLOCK_HEADER_SIZE + KIND_SIZE]
            self._check_kind(int.from_bytes(kind, "little"))
        payloads = struct.iter_unpack(f"{BLOCK_HEADER_SIZE}x{length}s", view[: count * size])
        if word == V1_MAGIC:
            self._started = True
        return UniformBatch([payload for (payload,) in payloads], offload=word == OFFLOAD_WORD)

    def _finish_tail(self, view: memoryview, batch: list[AnyFrame], decoded: Decoded) -> int:
        """Complete the unfinished block from the start of `view`; return the bytes that took."""
        tail = self._tail
        pos = min(max(BLOCK_HEADER_SIZE - len(tail), 0), len(view))
        tail += view[:pos]
        if len(tail) < BLOCK_HEADER_SIZE:
            return pos
        word: int
        length: int
        word, length = BLOCK_HEADER.unpack_from(tail)
        if len(tail) - pos < BLOCK_HEADER_SIZE:
            self._check(word, length, bytes(tail) + bytes(view[pos : pos + SHOWN]))
        missing = BLOCK_HEADER_SIZE + length - len(tail)
        tail += view[pos : pos + missing]
        pos = min(pos + missing, len(view))
        if len(tail) == BLOCK_HEADER_SIZE + length:
            # The buffer is given away, which saves a copy of each long frame.
            payload = memoryview(tail)[BLOCK_HEADER_SIZE:]
            self._tail = bytearray()
            if word == V1_MAGIC:
                self._started = True
                decoded.size += length
                batch.append(payload)
            elif word == OFFLOAD_WORD:
                self._check_kind(payload[0] | payload[1] << 8)
                decoded.size += length - VNET_HEADER_SIZE
                batch.append(OffloadFrame(payload))
            else:
                self._control(word & TYPE_MASK, bytes(payload), decoded)
        return pos

    def _check(self, word: int, length: int, shown: bytes | memoryview) -> None:
        """Check a header before a byte of its payload is kept."""
        least = 1
        if word == V1_MAGIC:
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
                f"the peer sent a block of {length} bytes; from {least} to {limit} are allowed"
            )

    def _check_kind(self, kind: int) -> None:
        if kind in self._refused:
            raise RemoteProtocolError(
                f"the peer sent OFFLOAD of gso_type 0x{kind >> 8:02x},"
                " which this side does not take"
            )

    def _may_control(self, number: int) -> bool:
        if self._wire is Wire.V1:
            return False
        if self._greeted:
            return True
        first = self._wire is Wire.V2 or not self._started
        return first and number in (HELLO, BYE)

    def _control_limit(self, number: int) -> int:
        if number == ACK:
            return TIMED_ACK.size
        if number in NUMBERED:
            return U64.size
        if number in (HELLO, BYE):
            return HELLO_LIMIT
        if number >= CRITICAL_TYPE:
            raise RemoteProtocolError(
                f"the peer sent a block of type 0x{number:02x}, which this vknet does not know:"
                " one of the two is too old"
            )
        return SKIP_LIMIT

    def _control(self, number: int, payload: bytes, decoded: Decoded) -> None:
        self._started = True
        if number == HELLO:
            if self._greeted:
                raise RemoteProtocolError("the peer sent a second HELLO")
            hello = Hello.from_json(payload)
            self._greeted = True
            self._limit = self._promised
            if self._offload:
                self._offload_limit = VNET_HEADER_SIZE + self._promised
            decoded.controls.append(hello)
        elif number == ACK and len(payload) == TIMED_ACK.size:
            decoded.controls.append(Ack(*TIMED_ACK.unpack(payload)))
        elif number in NUMBERED:
            if len(payload) != U64.size:
                raise RemoteProtocolError(_wrong_length(number, len(payload)))
            (value,) = U64.unpack(payload)
            decoded.controls.append(NUMBERED[number](value))
        elif number == BYE:
            decoded.controls.append(Bye(shortened(escaped(payload, BYE_LIMIT), BYE_LIMIT)))

    def _not_a_block(self, shown: bytes) -> RemoteProtocolError:
        text = escaped(shown[:SHOWN])
        if self._started:
            return RemoteProtocolError(f'what the peer sent is not a block: "{text}"')
        return RemoteProtocolError(
            f'the remote side began with "{text}", which is not vknet; if a start-up file of the'
            " shell (.bashrc, .profile) prints it, let it print only in interactive shells"
        )


def _wrong_length(number: int, length: int) -> str:
    if number == ACK:
        return f"an ACK of {length} bytes; {U64.size} or {TIMED_ACK.size} are allowed"
    return f"a PING or PONG of {length} bytes; it has {U64.size}"
