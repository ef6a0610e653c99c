"""Decoding, with the blocks one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from vknet.errors import RemoteProtocolError
from vknet.packet.virtio import OffloadFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vknet.framing import Control, Decoded, Decoder
    from vknet.packet.virtio import AnyFrame

    Item: TypeAlias = bytes | OffloadFrame | Control

__all__ = ["Outcome", "apart", "feed", "flat", "replay"]

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


@dataclass
class Outcome:
    """The result of decoding a stream, without views, so that outcomes compare.

    Attributes:
        blocks: those of each piece in the order of `flat`.
        error: the text of the error, if there was one.
        raised: the method that found it, "feed" or "end".
        held: the bytes that the decoder still held afterwards.
    """

    blocks: list[Any]
    error: str | None = None
    raised: str | None = None
    held: int = 0


def replay(
    decoder: Decoder,
    pieces: Iterable[bytes],
    *,
    end: bool = True,
    check: Callable[[list[Item]], None] = lambda _: None,
) -> Outcome:
    """Feed a stream to a decoder, up to its first error.

    Args:
        decoder: a new decoder.
        pieces: the stream.
        end: whether the stream ends after the last piece.
        check: called after each piece without an error, with all blocks up to it.
    """
    outcome = Outcome([])
    for piece in pieces:
        decoded = decoder.feed(piece)
        outcome.blocks += flat(decoded)
        if decoded.error is not None:
            outcome.error, outcome.raised = str(decoded.error), "feed"
            break
        check(outcome.blocks)
    if end and outcome.error is None:
        try:
            decoder.end()
        except RemoteProtocolError as exc:
            outcome.error, outcome.raised = str(exc), "end"
    outcome.held = decoder.held
    return outcome
