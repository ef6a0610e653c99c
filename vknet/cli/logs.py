"""What a command says on stderr or to syslog, and how: without ever waiting for whoever reads it.

A terminal that was stopped with Ctrl-S, or a full pipe, would otherwise hold up the frames, and the
signals too.  A thread does the writing, out of a bounded queue; when that is full, the newest lines
are lost.
"""

from __future__ import annotations

import logging
import os
import queue
import syslog
import threading
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, QueueListener
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["background_log", "background_syslog", "keep_standard_descriptors"]

STDERR: Final = 2

PRIORITIES: Final = {
    logging.DEBUG: syslog.LOG_DEBUG,
    logging.WARNING: syslog.LOG_WARNING,
    logging.ERROR: syslog.LOG_ERR,
}

QUEUED_LINES: Final = 1000

# How long the last lines may take at the end.
LAST_WORDS: Final = 1.0


def keep_standard_descriptors() -> None:
    """Keep 0, 1 and 2 from becoming something else's, when we were started with one closed."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(fd)


@contextmanager
def background_log(log: logging.Logger, command: str) -> Iterator[None]:
    """Have a logger write to stderr, one line a record, from a thread of its own.

    Args:
        log: the logger.
        command: stands before every line.
    """
    writer = _Stderr()
    writer.setFormatter(logging.Formatter(f"{command}: %(message)s"))
    with _logging_through(log, queue.Queue(QUEUED_LINES), writer):
        yield


@contextmanager
def background_syslog(log: logging.Logger, command: str) -> Iterator[None]:
    """Have a logger write to syslog(3), as a daemon, from a thread of its own."""
    syslog.openlog(command, syslog.LOG_PID, syslog.LOG_DAEMON)
    with _logging_through(log, queue.Queue(QUEUED_LINES), _Syslog()):
        yield


@contextmanager
def _logging_through(
    log: logging.Logger, lines: queue.Queue[logging.LogRecord], writer: logging.Handler
) -> Iterator[None]:
    handler = _DroppingHandler(lines)
    listener = QueueListener(lines, writer)
    log.addHandler(handler)
    log.propagate = False
    listener.start()
    try:
        yield
    finally:
        log.removeHandler(handler)
        # Not by us: the listener's thread may be stuck in a write for ever.
        stopper = threading.Thread(target=listener.stop, daemon=True)
        stopper.start()
        stopper.join(LAST_WORDS)


class _DroppingHandler(QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(queue.Full):
            self.queue.put_nowait(record)


class _Unlocked(logging.Handler):
    """A handler that holds no lock while it writes.

    Only the listener's thread writes.  That thread may be stuck in a write for ever, and
    `logging.shutdown` takes every handler's lock at exit.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True


class _Stderr(_Unlocked):
    """Writes to stderr, without a buffer."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            os.write(STDERR, f"{self.format(record)}\n".encode(errors="backslashreplace"))


class _Syslog(_Unlocked):
    """Writes to the system's log; it is no error that there is none."""

    def emit(self, record: logging.LogRecord) -> None:
        syslog.syslog(PRIORITIES.get(record.levelno, syslog.LOG_INFO), self.format(record))
