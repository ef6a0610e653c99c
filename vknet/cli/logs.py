"""Logging to stderr or to syslog that never blocks the program.

A terminal that was stopped with Ctrl-S, or a full pipe, would otherwise block the frames and the
signal handling.  A thread writes the lines, from a bounded queue.  When the queue is full, the
newest lines are lost.
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

# The syslog priority of each log level; LOG_INFO for any other level.
PRIORITIES: Final = {
    logging.DEBUG: syslog.LOG_DEBUG,
    logging.WARNING: syslog.LOG_WARNING,
    logging.ERROR: syslog.LOG_ERR,
}

QUEUED_LINES_MAX: Final = 1000

# The time to write the queued lines when a log is closed.
FLUSH_TIMEOUT_S: Final = 1.0


def keep_standard_descriptors() -> None:
    """Open /dev/null as each of descriptors 0, 1 and 2 that is closed.

    Otherwise a file that is opened later would get that number, and the log would go into it.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(fd)


@contextmanager
def background_log(log: logging.Logger, command: str) -> Iterator[None]:
    """Log to stderr, one line for each record, from a thread of its own.

    Args:
        log: the logger.
        command: the name in front of every line.
    """
    writer = _StderrHandler()
    writer.setFormatter(logging.Formatter(f"{command}: %(message)s"))
    with _logging_through(log, queue.Queue(QUEUED_LINES_MAX), writer):
        yield


@contextmanager
def background_syslog(log: logging.Logger, command: str) -> Iterator[None]:
    """Log to syslog(3) with the facility of daemons, from a thread of its own."""
    syslog.openlog(command, syslog.LOG_PID, syslog.LOG_DAEMON)
    with _logging_through(log, queue.Queue(QUEUED_LINES_MAX), _SyslogHandler()):
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
        # `stop` joins the listener's thread, which a write may block for ever.  Only a daemon
        # thread may wait for that.
        stopper = threading.Thread(target=listener.stop, daemon=True)
        stopper.start()
        stopper.join(FLUSH_TIMEOUT_S)


class _DroppingHandler(QueueHandler):
    """Drops a record when the queue is full."""

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(queue.Full):
            self.queue.put_nowait(record)


class _UnlockedHandler(logging.Handler):
    """A handler that does not hold its lock while it writes.

    Only the listener's thread uses it.  A write may block that thread for ever, and at exit
    `logging.shutdown` takes the lock of every handler.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True


class _StderrHandler(_UnlockedHandler):
    """Writes to stderr, unbuffered."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            os.write(STDERR, f"{self.format(record)}\n".encode(errors="backslashreplace"))


class _SyslogHandler(_UnlockedHandler):
    """Writes to syslog.  On a host without a syslog daemon the lines are lost, without an error."""

    def emit(self, record: logging.LogRecord) -> None:
        syslog.syslog(PRIORITIES.get(record.levelno, syslog.LOG_INFO), self.format(record))
