"""Batches of small frames that are alike, handled as one.  Pure.

Theory.  A flood of small frames costs per frame.  Its frames nearly always have one length and one
offload header: the datagrams of one program, the ACKs of a transfer.  When frames of one length lie
one behind the other, a byte that has to be the same in all of them is a *column*, every n-th byte.
A slice and a comparison check a column in about a nanosecond per frame; a check frame by frame
takes a hundred.

A uniform batch is made where frames enter, from a TAP or from the wire.  Code that knows it handles
it as a whole; all other code sees a sequence of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, overload

from vknet.counters import DropReason
from vknet.packet.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from vknet.packet.ip import IPV6_HEADER_SIZE
from vknet.packet.virtio import (
    NO_GSO,
    OFFLOAD_MIN,
    VNET_HEADER_SIZE,
    OffloadFrame,
    validate,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vknet.packet.virtio import AnyFrame, Offsets

__all__ = ["UNIFORM_FRAME_MAX", "UNIFORM_MAX", "UNIFORM_MIN", "UniformBatch", "count_uniform"]

UNIFORM_MIN: Final = 16
"""The number of frames from which on a uniform batch costs less than single frames."""

UNIFORM_MAX: Final = 256
"""The maximum number of frames from the wire, which bounds the cost of a search."""

UNIFORM_FRAME_MAX: Final = 2048
"""The maximum size of a frame in bytes, without its block header.  Copying longer ones does not
pay."""

# Without segmentation, VLAN tags and IPv6 extension headers, the result of `validate` depends on
# the length of a frame and on these bytes: the offload header, the EtherType, IP's version and
# header length, the fragment field and the protocol (in IPv6 the next header).
DECIDING: Final = (
    *range(VNET_HEADER_SIZE),
    *(OFFLOAD_MIN + at for at in (-2, -1, 0, 6, 7, 9)),
)


class UniformBatch(Sequence["AnyFrame"]):
    """At least one frame.  All have the same length, and all are plain, or all of one offload kind.

    Args:
        datas: the frames, or the data of the offload frames.
        offload: whether they are offload frames.
    """

    __slots__ = ("datas", "offload")

    def __init__(self, datas: Sequence[bytes], *, offload: bool) -> None:
        self.datas = datas
        self.offload = offload

    def __len__(self) -> int:
        return len(self.datas)

    @property
    def kind(self) -> int:
        """The `OffloadFrame.kind` of each frame."""
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
        """Return what `validate` returns for each frame; None if each has to be checked alone."""
        first = self.datas[0]
        size = len(first)
        if not self.offload or size <= max(DECIDING) or first[1] != NO_GSO:
            return None
        if count_uniform(b"".join(self.datas), size, DECIDING) < len(self.datas):
            return None
        found = validate(first)
        if isinstance(found, DropReason):
            return None
        ethertype = first[OFFLOAD_MIN - 2] << 8 | first[OFFLOAD_MIN - 1]
        plain_ipv6 = (
            ethertype == ETHERTYPE_IPV6 and found.transport == OFFLOAD_MIN + IPV6_HEADER_SIZE
        )
        return found if plain_ipv6 or ethertype == ETHERTYPE_IPV4 else None


def count_uniform(data: bytes, size: int, columns: Iterable[int]) -> int:
    """Count the records, from the first one on, that equal it in these columns.

    Args:
        data: whole records, one behind the other.
        size: of each record, in bytes.
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
