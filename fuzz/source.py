"""The bytes of an input, taken from the front, as numbers and choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Source", "pieces"]

T = TypeVar("T")


class Source:
    """Takes values from bytes.  Behind the end of them there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether bytes are left."""
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """Take at most this number of bytes."""
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> bytes:
        """Take all that is left."""
        return self.take(max(len(self._data) - self._at, 0))

    def number(self, size: int = 1) -> int:
        """Take a number of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def choice(self, values: Sequence[T]) -> T:
        """Take one of these values."""
        return values[self.number() % len(values)]


# The sizes of pieces, in turn.
PATTERNS: Final = ((1,), (9,), (3, 1, 40), (200, 1), (4096,), (7, 8, 9, 1000), (65, 2, 1), (17, 33))


def pieces(data: bytes, pattern: int, most: int = 32) -> Iterator[bytes]:
    """Cut bytes into at most `most` pieces; a number chooses their sizes, but for the last one."""
    sizes = PATTERNS[pattern % len(PATTERNS)]
    at = 0
    for turn in range(most - 1):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at += size
        if at >= len(data):
            return
    yield data[at:]
