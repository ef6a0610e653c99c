"""Watching a switch: a client that says what it gets, in lines for people or as a pcap capture.

    switch -> endpoint -> a line or a record a frame -> a worker thread -> stdout, or a file

A write can take for ever: a terminal stopped with Ctrl-S, a pager that waits for its user, a FIFO
that nobody has opened.  A thread waits in our place, so that a signal still ends the program, and
without O_NONBLOCK, which on a terminal would be everybody's.  Meanwhile the switch keeps a queue of
frames for us, and drops when that is full: whoever watches slowly loses frames of his own alone.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import select
import stat
import time
from contextlib import asynccontextmanager
from io import FileIO
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from vknet.capture.describe import describe
from vknet.capture.pcap import file_header, record
from vknet.counters import DropReason
from vknet.endpoints.seqpacket import open_seqpacket
from vknet.errors import SetupError, UsageError, VknetError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from vknet.endpoints import Endpoint
    from vknet.packet.ethernet import Frame

__all__ = ["STDOUT_NAME", "capture"]

log = logging.getLogger(__name__)

STDOUT: Final = 1
STDOUT_NAME: Final = "-"

# How long a write that was begun may go on when all is to end: what was caught should not end in
# the middle of a record because a disk was slow for a moment.
LAST_WRITE: Final = 0.25

# What others sent is nobody's but the user's.
FILE_MODE: Final = 0o600

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


async def capture(path: str, pcap: str | None = None) -> None:
    """Connect to a switch and write down what it sends, until cancelled or nobody reads it.

    Each batch of frames is written at once.  When cancelled, a write that takes longer than a
    moment is given up.

    Args:
        path: of the switch's socket.
        pcap: the file to write a capture to, ``-`` for stdout, anew if it is there already; None
            writes lines to stdout.

    Raises:
        UsageError: a capture would be written to a terminal.
        SetupError: nobody listens at `path`, or what it is written to cannot be, or is full.
        EndpointGone: the switch closed the connection.
    """
    # Before anything else: a mistake in the arguments must not depend on what is running.
    if pcap == STDOUT_NAME:
        _refuse_terminal(STDOUT, "stdout")
    failure: VknetError | None = None
    async with (
        await open_seqpacket(path) as endpoint,
        _open_output(pcap) as output,
        trio.open_nursery() as nursery,
    ):
        log.info("watching %s as one of its clients; Ctrl-C ends it", path)
        nursery.start_soon(output.wait_until_unread, nursery.cancel_scope)
        try:
            await _write_frames(endpoint, output, as_pcap=pcap is not None)
        except BrokenPipeError:
            pass
        except VknetError as exc:
            failure = exc
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _write_frames(endpoint: Endpoint, output: _Output, *, as_pcap: bool) -> NoReturn:
    if as_pcap:
        # The file may be a FIFO that was waited for; what came meanwhile is not of now.
        endpoint.discard(DropReason.STALE)
        await output.write(file_header())
    write_batch = _records if as_pcap else _lines
    while True:
        frames = await endpoint.receive()
        await output.write(write_batch(frames, time.time()))


def _records(frames: Sequence[Frame], now: float) -> bytes:
    return b"".join([record(frame, now) for frame in frames])


def _lines(frames: Sequence[Frame], now: float) -> bytes:
    whole, fraction = divmod(round(now * 1_000_000), 1_000_000)
    stamp = f"{time.strftime('%H:%M:%S', time.localtime(whole))}.{fraction:06d}"
    return "".join([f"{stamp} {describe(frame)}\n" for frame in frames]).encode("ascii")


# --- where it is written to -----------------------------------------------------------------------


class _Output:
    """A file or a stream, which a thread writes to, without a buffer."""

    def __init__(self, name: str, file: FileIO) -> None:
        self._name = name
        self._file = file

    async def write(self, data: bytes) -> None:
        """Write all of it.

        When cancelled, it returns after `LAST_WRITE` at most, and a part may have been written.

        Raises:
            BrokenPipeError: nobody reads it any more.
            SetupError: it cannot be written.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        token = trio.lowlevel.current_trio_token()
        ended = trio.Event()

        def work() -> None:
            try:
                _write_all(self._file, data)
            finally:
                token.run_sync_soon(ended.set)

        try:
            await trio.to_thread.run_sync(work, abandon_on_cancel=True)
        except trio.Cancelled:
            with trio.move_on_after(LAST_WRITE, shield=True):
                await ended.wait()
            raise
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise SetupError(_why_not(self._name, exc)) from exc

    async def wait_until_unread(self, scope: trio.CancelScope) -> None:
        """Cancel the scope when nobody reads any more, though nothing is written that would fail.

        A pipe says so, if it can only be written: nothing but its end makes it readable.
        """
        fd = self._file.fileno()
        write_only = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        if write_only and stat.S_ISFIFO(os.fstat(fd).st_mode):
            await trio.lowlevel.wait_readable(fd)
            scope.cancel()


def _write_all(file: FileIO, data: bytes) -> None:
    """Write all of it, for as long as it takes; for a thread.

    Raises:
        OSError: it cannot be written.
        ValueError: the file was closed; nobody waits for this thread any longer.
    """
    rest = memoryview(data)
    while rest:
        written = file.write(rest)
        if written is None:
            # Somebody with the same pipe or terminal has set O_NONBLOCK, and wants it so.
            poll = select.poll()
            poll.register(file, select.POLLOUT)
            poll.poll()
        else:
            rest = rest[written:]


@asynccontextmanager
async def _open_output(pcap: str | None) -> AsyncIterator[_Output]:
    """Open what is written to; a thread that still writes when it is closed does no harm.

    Raises:
        UsageError: it is a terminal.
        SetupError: it cannot be opened, or not all of it was written in the end.
    """
    if pcap is None or pcap == STDOUT_NAME:
        # Closing it leaves the descriptor open, which is not ours.
        with FileIO(STDOUT, "w", closefd=False) as file:
            yield _Output("stdout", file)
        return
    try:
        # A FIFO makes wait until it has a reader.
        file = await trio.to_thread.run_sync(_create, pcap, abandon_on_cancel=True)
    except OSError as exc:
        raise SetupError(_why_not(pcap, exc)) from exc
    try:
        _refuse_terminal(file.fileno(), pcap)
        yield _Output(pcap, file)
    finally:
        # A file system that is elsewhere may find out only now that it is full: close(2).
        try:
            file.close()
        except OSError as exc:
            raise SetupError(_why_not(pcap, exc)) from exc


def _create(path: str) -> FileIO:
    """Open a file to be written from its start; for a thread."""

    def create(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOCTTY, FILE_MODE)

    file = FileIO(path, "w", opener=create)
    try:
        trio.from_thread.check_cancelled()
    except trio.Cancelled:
        # A reader came when nobody waited for one any more.
        file.close()
        raise
    return file


def _refuse_terminal(fd: int, name: str) -> None:
    if os.isatty(fd):
        raise UsageError(
            f"{name} is a terminal, and a capture is nothing to look at: write it to a file,"
            " or to a program that reads it, as in: --pcap - | wireshark -k -i -"
        )


def _why_not(name: str, exc: OSError) -> str:
    if exc.errno in FULL:
        return f"{name}: {exc.strerror}; make room, or write somewhere else"
    return f"{name}: cannot be written: {exc.strerror}; choose a file that can be"
