"""The receiving half of the wire: bytes to blocks, without any I/O (docs/protocol.md).

Theory.  The decoder holds at most one unfinished block.  It looks at a header before it keeps a
byte of the payload, so what a peer can make it hold is bounded by the limit in force.  It never
searches for the next header: a stream that is wrong once is wrong for good, and every later call
raises the same error.  How the stream was chopped into calls never shows in the frames that come
out, only in which of them come together, as a train.

Whether control blocks may appear is the `Wire` the side was told to speak; no frame can forge one,
since they are known by their header and never by what a frame holds.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from vknet.errors import RemoteProtocolError, escaped
from vknet.framing import (
    ACK,
    BYE,
    BYE_LIMIT,
    CONTROL_MARK,
    FRAME_LIMIT_V1,
    FRAME_LIMIT_V2,
    HEADER,
    HEADER_SIZE,
    HELLO,
    MAGIC,
    NUMBERED,
    OFFLOAD_WORD,
    TIMED_ACK,
    TYPE_MASK,
    U64,
    Ack,
    Bye,
    Wire,
)
from vknet.packet.uniform_batch import (
    UNIFORM_FRAME_MAX,
    UNIFORM_MAX,
    UNIFORM_MIN,
    UniformBatch,
    count_uniform,
)
from vknet.packet.virtio import HEADER_SIZE as OFFLOAD_HEADER_SIZE
from vknet.packet.virtio import OFFLOAD_MIN, OffloadFrame
from vknet.wire.hello import HELLO_LIMIT, Hello

if TYPE_CHECKING:
    from vknet.framing import Block

__all__ = ["Decoder"]

# From this type on an unknown block ends the link; below it, up to so many bytes of it are skipped.
CRITICAL: Final = 0x80
SKIP_LIMIT: Final = 4096

# Of an offload header: what `OffloadFrame.kind` looks at.
KIND_SIZE: Final = 2

# How much of a stream that is no vknet's an error shows.
SHOWN: Final = 64


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
        `UniformBatch`, of copies.

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
        may_be_uniform = True
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
            if length == seen and may_be_uniform and length <= UNIFORM_FRAME_MAX:
                taken = self._take_uniform(view[pos:], word, length, blocks)
                pos += taken
                may_be_uniform = taken > 0
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

    def _take_uniform(self, view: memoryview, word: int, length: int, blocks: list[Block]) -> int:
        """Take the train that begins with this block, which has been checked; its bytes, or 0."""
        size = HEADER_SIZE + length
        count = min(len(view) // size, UNIFORM_MAX)
        if count < UNIFORM_MIN or word not in (MAGIC, OFFLOAD_WORD):
            return 0
        # Offload frames have to be of one kind as well.
        columns = range(HEADER_SIZE if word == MAGIC else HEADER_SIZE + KIND_SIZE)
        count = count_uniform(bytes(view[: count * size]), size, columns)
        if count < UNIFORM_MIN:
            return 0
        taken = count * size
        payloads = struct.iter_unpack(f"{HEADER_SIZE}x{length}s", view[:taken])
        blocks.append(
            UniformBatch([payload for (payload,) in payloads], offload=word == OFFLOAD_WORD)
        )
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
            blocks.append(Bye(escaped(payload, BYE_LIMIT)))

    def _not_a_block(self, shown: bytes) -> RemoteProtocolError:
        what = escaped(shown[:SHOWN])
        if self._started:
            return RemoteProtocolError(f'what the peer sent is not a block: "{what}"')
        return RemoteProtocolError(
            f'the remote side began with "{what}", which is not vknet: if that is output of a'
            " shell's start-up file (.bashrc, .profile), let it print only when interactive"
        )
