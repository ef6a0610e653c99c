"""What a decoder delivered, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vknet.packet.uniform_batch import UniformBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vknet.framing import Block, Control
    from vknet.packet.virtio import OffloadFrame

__all__ = ["singly"]


def singly(blocks: Iterable[Block]) -> Iterator[bytes | OffloadFrame | Control]:
    """The same in order, with the frames of trains by themselves, and no views."""
    for block in blocks:
        if isinstance(block, UniformBatch):
            for frame in block:
                yield bytes(frame) if isinstance(frame, memoryview) else frame
        else:
            yield bytes(block) if isinstance(block, memoryview) else block
