"""What goes wrong in one task stays in it: it is logged, and the daemon goes on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vknet.errors import escaped

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Throttle", "contained"]

log = logging.getLogger(__name__)


class Throttle:
    """Says whether a message that may repeat is due.

    Args:
        interval: seconds from one message to the next.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = float("-inf")

    def is_due(self, now: float) -> bool:
        """Whether to log now; it counts as logged then."""
        if now < self._next:
            return False
        self._next = now + self._interval
        return True


class contained:  # noqa: N801 - it reads as a keyword, like contextlib.suppress
    """Log an unexpected error in one line, with its traceback for -v, instead of raising it.

    A MemoryError is raised: it is not the fault of this task.

    Args:
        what: the subject of the line, such as ``client7 was disconnected``.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Log an error, and suppress it."""
        if not isinstance(exc, Exception) or _has_memory_error(exc):
            return False
        cause = _first(exc)
        log.error(
            "%s because of an internal error: %s; please report it, with what -v logs",
            self._what,
            escaped(f"{type(cause).__name__}: {cause}"),
        )
        log.debug("%s", self._what, exc_info=exc)
        return True


def _first(exc: BaseException) -> BaseException:
    """Return the first error of a group, or of a group in it."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def _has_memory_error(exc: Exception) -> bool:
    if isinstance(exc, ExceptionGroup):
        return exc.subgroup(MemoryError) is not None
    return isinstance(exc, MemoryError)
