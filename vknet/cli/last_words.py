"""The end of a command by an error that nothing can handle: one line, and the exit status.

Such an error is a lack of memory, of descriptors or of threads.  Cleaning up needs what is lacking
and could fail again and again, so the process ends at once.  The kernel closes what it had: ssh
ends when its stdin ends, and a TAP that vknet created is deleted.

The line is written without the log's thread, and its text exists before it is needed.
"""

from __future__ import annotations

import errno
import os
import syslog
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from vknet.errors import VknetError
from vknet.exit_codes import EXIT_FAILED

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

__all__ = ["run_to_the_end"]

STDERR: Final = 2

NO_MEMORY: Final = "out of memory; ended at once"
NO_DESCRIPTORS: Final = "too many open files; raise the limit (ulimit -n, LimitNOFILE=)"
NO_THREADS: Final = "no thread can be started; raise the limit (ulimit -u, TasksMax=)"

# The message of RuntimeError if a thread cannot be started.
THREAD_ERROR: Final = "can't start new thread"


def run_to_the_end(log: logging.Logger, command: str, work: Callable[[], int]) -> int:
    """Do the work of a command.

    Args:
        log: for an unexpected error.
        command: the name in front of the last line.
        work: returns the exit status.

    Returns:
        The exit status.  If something is lacking, the process ends instead.

    Raises:
        VknetError: the work raised it.
    """
    lines = {
        text: f"{command}: {text}\n".encode() for text in (NO_MEMORY, NO_DESCRIPTORS, NO_THREADS)
    }
    # Of a thread, such as that of the log.
    threading.excepthook = _hook(lines, threading.excepthook)
    try:
        return work()
    except VknetError:
        raise
    except Exception as exc:  # noqa: BLE001 - nothing above handles it
        text = _what_is_lacking(exc)
        if text is not None:
            _end(text, lines)
        # A mistake in the program.  In the background, stderr is /dev/null, and the log is syslog.
        for line in "".join(traceback.format_exception(exc)).splitlines():
            log.critical("%s", line)
        return EXIT_FAILED


def _hook(
    lines: dict[str, bytes], before: Callable[[threading.ExceptHookArgs], object]
) -> Callable[[threading.ExceptHookArgs], object]:
    def hook(args: threading.ExceptHookArgs) -> None:
        text = None if args.exc_value is None else _what_is_lacking(args.exc_value)
        if text is not None:
            _end(text, lines)
        before(args)

    return hook


def _what_is_lacking(exc: BaseException) -> str | None:
    """Return the last line for an exception; None if nothing is lacking."""
    pending = [exc]
    while pending:
        one = pending.pop()
        if isinstance(one, BaseExceptionGroup):
            pending.extend(one.exceptions)
        if isinstance(one, MemoryError):
            return NO_MEMORY
        if isinstance(one, OSError):
            if one.errno == errno.ENOMEM:
                return NO_MEMORY
            if one.errno in (errno.EMFILE, errno.ENFILE):
                return NO_DESCRIPTORS
        if isinstance(one, RuntimeError) and THREAD_ERROR in str(one):
            return NO_THREADS
        # trio wraps an error of its own loop.
        if one.__cause__ is not None:
            pending.append(one.__cause__)
    return None


def _end(text: str, lines: dict[str, bytes]) -> NoReturn:
    with suppress(Exception):
        # A reader that has stopped must not keep the process alive.  The flag belongs to the open
        # file, such as the terminal, which the shell and its other programs use as well.
        before = os.get_blocking(STDERR)
        os.set_blocking(STDERR, False)
        try:
            os.write(STDERR, lines[text])
        finally:
            os.set_blocking(STDERR, before)
    with suppress(Exception):
        # Only after openlog, which the background does; elsewhere stderr is enough.
        if _is_null(STDERR):
            syslog.syslog(syslog.LOG_CRIT, text)
    os._exit(EXIT_FAILED)


def _is_null(fd: int) -> bool:
    null, status = Path(os.devnull).stat(), os.fstat(fd)
    return null.st_rdev == status.st_rdev
