"""Logging to stderr or to syslog that never blocks the program.

systemd's journal adds the time to each line, and takes the priority from a prefix such as ``<4>``
(sd-daemon(3)).  Elsewhere each line of a program that goes on for days has the time itself: on a
terminal, in a file, and in a pipe.

A terminal that was stopped with Ctrl-S, or a full pipe, would otherwise block the frames and the
signal handling.  A thread writes the lines, from a bounded queue.  When the queue is full, the
newest lines are lost.
"""

from __future__ import annotations

import logging
import os
import queue
import syslog
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
    logging.CRITICAL: syslog.LOG_CRIT,
}

# As in traditional syslog files; strftime(3) in the C locale, since Python sets no other.
TIME_FORMAT: Final = "%b %d %H:%M:%S"

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
def background_log(log: logging.Logger, command: str, *, timed: bool = False) -> Iterator[None]:
    """Log to stderr, one line for each record, from a thread of its own.

    Args:
        log: the logger.
        command: the name in front of every line.
        timed: whether each line has the time; never in the journal.
    """
    writer = _StderrHandler()
    line = f"{command}: %(message)s"
    if stderr_is_journal():
        writer.setFormatter(_JournalFormatter(line))
    else:
        writer.setFormatter(
            logging.Formatter(f"%(asctime)s {line}" if timed else line, TIME_FORMAT)
        )
    with _logging_through(log, queue.Queue(QUEUED_LINES_MAX), writer):
        yield


def stderr_is_journal() -> bool:
    """Whether stderr goes to systemd's journal: see JOURNAL_STREAM in systemd.exec(5)."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    with suppress(OSError):
        status = os.fstat(STDERR)
        return stream == f"{status.st_dev}:{status.st_ino}"
    return False


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
        # `stop` would join the thread of the listener, which a write may block for ever.  Nor can a
        # thread wait for that: when memory is short, none can be started.
        with suppress(queue.Full):
            listener.enqueue_sentinel()
        with lines.all_tasks_done:
            lines.all_tasks_done.wait_for(lambda: not lines.unfinished_tasks, FLUSH_TIMEOUT_S)


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
        try:
            self.emit(record)
        except MemoryError:
            # It ends the program: see `vknet.cli.last_words`.
            raise
        except Exception:  # noqa: BLE001 - it would end the thread, and with it the log
            self.handleError(record)
        return True


class _StderrHandler(_UnlockedHandler):
    """Writes to stderr, unbuffered."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            os.write(STDERR, f"{self.format(record)}\n".encode(errors="backslashreplace"))


class _JournalFormatter(logging.Formatter):
    """Puts the priority in front of a line."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{priority(record)}>{super().format(record)}"


class _SyslogHandler(_UnlockedHandler):
    """Writes to syslog.  On a host without a syslog daemon the lines are lost, without an error."""

    def emit(self, record: logging.LogRecord) -> None:
        # A path need not be UTF-8, and C ends a string at NUL.
        line = self.format(record).encode(errors="backslashreplace").decode()
        syslog.syslog(priority(record), line.replace("\0", r"\x00"))


def priority(record: logging.LogRecord) -> int:
    """Return the syslog priority of a record."""
    return PRIORITIES.get(record.levelno, syslog.LOG_INFO)
