"""The heap of a process through which batches of frames pass, thousands of times a second.

A library leaves both to the program that it is part of: this is for the vknet command.

The collector of garbage in circles looks at all objects again and again that live for long; frames
are in no circles.  And glibc gives what is free at the top of the heap back to the kernel when that
passes a bound (M_TRIM_THRESHOLD), which batches of super-frames do: their pages were cleared and
mapped anew, 39 000 a gigabyte where it is sent, 21 000 where it is received; a hundred now, and TCP
is 2 to 4 % faster.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

__all__ = ["tune_malloc"]

# Objects made and not freed that call for a look: more than a full queue has.
GC_THRESHOLD: Final = 50_000

# malloc.h: bytes that stay although they are free, that are asked for beside what is needed, and
# from which on a block is no part of the heap.  With half of the first it is 15 000 still.
M_TRIM_THRESHOLD: Final = -1
M_TOP_PAD: Final = -2
M_MMAP_THRESHOLD: Final = -3
KEPT: Final = {M_TRIM_THRESHOLD: 1 << 20, M_TOP_PAD: 1 << 17, M_MMAP_THRESHOLD: 1 << 19}


def tune_malloc() -> None:
    """Do what is said above for the rest of this process's life; where it cannot be done, not."""
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    # Other C libraries have no such thing.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in KEPT.items():
            mallopt(parameter, value)
