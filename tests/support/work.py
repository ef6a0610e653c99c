"""A measure of work that does not depend on the speed of the machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["lines_during"]


def lines_during(function: Callable[[], object]) -> int:
    """Run a function, and return how many lines of Python that executed.

    Each turn of a loop executes a line at least, so the number shows how far a loop over untrusted
    bytes went.  A tracer that is already set, such as that of coverage, is restored afterwards.
    """
    lines = 0

    def count(_: FrameType, event: str, __: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines
