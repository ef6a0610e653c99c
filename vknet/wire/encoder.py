"""The sending half of the codec: frames and control messages to bytes, without any I/O."""

from __future__ import annotations

import struct
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from vknet.counters import DropReason
from vknet.errors import LocalProtocolError, shortened
from vknet.packet.gso import for_receiver
from vknet.packet.uniform_batch import UniformBatch
from vknet.packet.virtio import VNET_HEADER_SIZE, OffloadFrame
from vknet.wire.blocks import (
    ACK,
    BLOCK_HEADER,
    BYE,
    BYE_LIMIT,
    CONTROL_MARK,
    HELLO,
    NUMBERED,
    OFFLOAD_WORD,
    TIMED_ACK,
    U64,
    V1_MAGIC,
    Ack,
    Bye,
    Control,
    Ping,
    Pong,
)
from vknet.wire.hello import HELLO_LIMIT, Hello

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vknet.packet.ethernet import Frame
    from vknet.packet.virtio import AnyFrame

__all__ = ["Encoded", "encode_control", "encode_frames"]

NUMBERED_BLOCK: Final = struct.Struct("<IIQ")
TIMED_ACK_BLOCK: Final = struct.Struct("<IIQI")

TYPE_OF: Final = {block: number for number, block in NUMBERED.items()}

# From this mean size of a part in bytes on, a vectored write costs less than a copy.
LARGE: Final = 4096

NO_KINDS: Final[frozenset[int]] = frozenset()
NO_DROPS: Final[Mapping[DropReason, int]] = MappingProxyType({})


class Encoded(NamedTuple):
    """A batch of frames as it goes over the wire."""

    parts: list[Frame]
    """The bytes to write, in order: small frames joined in one buffer, large ones as they are.  The
    parts are valid for as long as the frames are."""
    frames: int
    """The number of frames in it."""
    size: int
    """The bytes of these frames, without block headers."""
    drops: Mapping[DropReason, int] = NO_DROPS
    """The frames that were left out, by reason."""

    @property
    def data(self) -> bytes:
        """All parts in one buffer."""
        return b"".join(self.parts)


def encode_frames(
    frames: Sequence[AnyFrame], limit: int, kinds: frozenset[int] = NO_KINDS
) -> Encoded:
    """Encode a batch.

    Args:
        frames: in order.
        limit: the longest frame that the peer takes, in bytes; a longer or empty one is dropped.
        kinds: the offload frames that the peer takes, as `vknet.packet.virtio.header_kinds` returns
            them; others are segmented here.
    """
    if isinstance(frames, UniformBatch):
        length = len(frames[0])
        if 0 < length <= limit and (not frames.offload or frames.kind in kinds):
            return _encode_uniform(frames, length)
    parts: list[Frame] = []
    add = parts.append
    pack = BLOCK_HEADER.pack
    size = taken = 0
    drops: Counter[DropReason] | None = None
    for frame in frames:
        if not isinstance(frame, OffloadFrame):
            length = len(frame)
            if 0 < length <= limit:
                add(pack(V1_MAGIC, length))
                add(frame)
                size += length
                taken += 1
            else:
                drops = Counter() if drops is None else drops
                drops[DropReason.OVER_PEER_LIMIT if length else DropReason.EMPTY] += 1
            continue
        data = frame.data
        length = len(data) - VNET_HEADER_SIZE
        # `OffloadFrame.kind` without the cost of a call for every frame.
        if length <= limit and data[0] | data[1] << 8 in kinds:
            add(pack(OFFLOAD_WORD, VNET_HEADER_SIZE + length))
            add(data)
            size += length
            taken += 1
        else:
            drops = Counter() if drops is None else drops
            plain = encode_frames(for_receiver((frame,), NO_KINDS, drops), limit)
            parts += plain.parts
            size += plain.size
            taken += plain.frames
            drops.update(plain.drops)
    if size < LARGE * len(parts):
        parts = [b"".join(parts)]
    return Encoded(parts, taken, size, NO_DROPS if drops is None else drops)


def _encode_uniform(batch: UniformBatch, length: int) -> Encoded:
    if batch.offload:
        header = BLOCK_HEADER.pack(OFFLOAD_WORD, VNET_HEADER_SIZE + length)
    else:
        header = BLOCK_HEADER.pack(V1_MAGIC, length)
    count = len(batch)
    return Encoded([header + header.join(batch.datas)], count, count * length)


def encode_control(control: Control) -> bytes:
    """Encode a control message.

    Raises:
        LocalProtocolError: a HELLO over `HELLO_LIMIT` bytes, a number that is not a u64, or an
            ACK's time that is not a u32.
    """
    match control:
        case Hello():
            number, payload = HELLO, control.to_json()
        case Ack(total, at) if at is not None:
            return _timed_ack(total, at)
        case Ack(value) | Ping(value) | Pong(value):
            return _numbered(TYPE_OF[type(control)], value)
        case Bye(reason):
            text = shortened(reason, BYE_LIMIT).encode("utf-8", "replace")
            number, payload = BYE, text or b"-"
    if len(payload) > HELLO_LIMIT:
        raise LocalProtocolError(f"a HELLO of {len(payload)} bytes; the limit is {HELLO_LIMIT}")
    return BLOCK_HEADER.pack(CONTROL_MARK | number, len(payload)) + payload


def _numbered(number: int, value: int) -> bytes:
    if not 0 <= value < 2**64:
        raise LocalProtocolError(f"a u64 is needed, not {value}")
    return NUMBERED_BLOCK.pack(CONTROL_MARK | number, U64.size, value)


def _timed_ack(total: int, at: int) -> bytes:
    if not (0 <= total < 2**64 and 0 <= at < 2**32):
        raise LocalProtocolError(f"a u64 and a u32 are needed, not {total} and {at}")
    return TIMED_ACK_BLOCK.pack(CONTROL_MARK | ACK, TIMED_ACK.size, total, at)
