"""Trains: small frames, one behind the other, that are alike, dealt with as one.  Pure.

Theory.  A flood of small frames costs by the frame.  Its frames are nearly always of one length and
have the same offload header: the datagrams of one program, the ACKs of a transfer.  Where frames of
one length lie one behind the other, what has to be the same in all of them is a *column*, every
n-th byte.  To see that a column is of one value takes a slice and a comparison, a nanosecond a
frame, where it takes a hundred and more to look at each.

A train is made where frames come in, from a TAP or from the wire; whoever knows of trains may deal
with one as a whole, and to all others it is a sequence of frames as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, overload

from vknet.packet.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from vknet.packet.virtio import (
    HEADER_SIZE,
    IPV6_HEADER,
    NO_GSO,
    OFFLOAD_MIN,
    OffloadFrame,
    validate,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vknet.packet.virtio import AnyFrame, Offsets

__all__ = ["UNIFORM_FRAME_MAX", "UNIFORM_MAX", "UNIFORM_MIN", "UniformBatch", "count_uniform"]

UNIFORM_MIN: Final = 16
"""Frames from which on it takes less to deal with all of them at once."""

UNIFORM_MAX: Final = 256
"""Frames in a train from the wire at the most, so that to look for one never takes long."""

UNIFORM_FRAME_MAX: Final = 2048
"""Bytes of a frame of a train at the most, without its block's header: longer ones are better not
copied."""

# What `validate` makes of a frame that is not to be cut depends on its length and on these bytes,
# if it is an IP packet without tags and without extensions of IPv6: the offload header, Ethernet's
# type, IP's version and length, fragment and protocol (IPv6: next header).
TELLING: Final = (
    *range(HEADER_SIZE),
    *(OFFLOAD_MIN + at for at in (-2, -1, 0, 6, 7, 9)),
)


class UniformBatch(Sequence["AnyFrame"]):
    """At least one frame; all have the same length, and all are plain or all of one offload kind.

    Args:
        datas: the frames, or the data of the offload frames.
        offload: which of them.
    """

    __slots__ = ("datas", "offload")

    def __init__(self, datas: Sequence[bytes], *, offload: bool) -> None:
        self.datas = datas
        self.offload = offload

    def __len__(self) -> int:
        return len(self.datas)

    @property
    def kind(self) -> int:
        """That of each offload frame, as `OffloadFrame.kind`."""
        return OffloadFrame(self.datas[0]).kind

    def __iter__(self) -> Iterator[AnyFrame]:
        return map(OffloadFrame, self.datas) if self.offload else iter(self.datas)

    @overload
    def __getitem__(self, index: int) -> AnyFrame: ...

    @overload
    def __getitem__(self, index: slice) -> list[AnyFrame]: ...

    def __getitem__(self, index: int | slice) -> AnyFrame | list[AnyFrame]:
        if isinstance(index, slice):
            datas = self.datas[index]
            return [*map(OffloadFrame, datas)] if self.offload else [*datas]
        data = self.datas[index]
        return OffloadFrame(data) if self.offload else data

    def offsets(self) -> Offsets | None:
        """What `validate` gives of every one of them; None if only a look at each can tell."""
        first = self.datas[0]
        size = len(first)
        if not self.offload or size <= max(TELLING) or first[1] != NO_GSO:
            return None
        if count_uniform(b"".join(self.datas), size, TELLING) < len(self.datas):
            return None
        found = validate(first)
        if isinstance(found, str):
            return None
        ethertype = first[OFFLOAD_MIN - 2] << 8 | first[OFFLOAD_MIN - 1]
        plain_ipv6 = ethertype == ETHERTYPE_IPV6 and found.transport == OFFLOAD_MIN + IPV6_HEADER
        return found if plain_ipv6 or ethertype == ETHERTYPE_IPV4 else None


def count_uniform(data: bytes, size: int, columns: Iterable[int]) -> int:
    """How many records, from the first one on, agree with it in these columns.

    Args:
        data: whole records, one behind the other.
        size: bytes of each.
        columns: positions in a record.
    """
    end = len(data)
    for at in columns:
        column = data[at:end:size]
        first = column[:1]
        count = len(column)
        if column != first * count:
            end = size * (count - len(column.lstrip(first)))
    return end // size
