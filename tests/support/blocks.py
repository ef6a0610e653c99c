"""Decoding, with the blocks one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from vknet.packet.virtio import OffloadFrame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vknet.framing import Control, Decoded, Decoder
    from vknet.packet.virtio import AnyFrame

    Item: TypeAlias = bytes | OffloadFrame | Control

__all__ = ["apart", "feed", "flat"]

T = TypeVar("T")


def flat(decoded: Decoded) -> list[Item]:
    """Return the control messages in order, and then copies of the frames in order."""
    return [*decoded.controls, *(owned(frame) for batch in decoded.batches for frame in batch)]


def owned(frame: AnyFrame) -> bytes | OffloadFrame:
    if isinstance(frame, OffloadFrame):
        return OffloadFrame(bytes(frame.data))
    return bytes(frame)


def apart(blocks: Iterable[T]) -> list[T]:
    """Return the blocks in the order of `flat`, which does not keep how they were interleaved."""

    def is_frame(block: Any) -> bool:
        if isinstance(block, dict):
            return bool(block.keys() & {"frame", "offload"})
        return isinstance(block, (bytes, OffloadFrame))

    return sorted(blocks, key=is_frame)


def feed(decoder: Decoder, data: bytes, blocks: list[Item] | None = None) -> None:
    """Decode a piece, add its blocks to `blocks`, and raise its error."""
    decoded = decoder.feed(data)
    if blocks is not None:
        blocks += flat(decoded)
    if decoded.error is not None:
        raise decoded.error
