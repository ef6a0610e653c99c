"""A client of a switch that captures what it receives, as lines of text or in the pcap format.

    switch -> endpoint -> a line or a record for each frame -> a worker thread -> stdout or a file

A write can block without limit: on a terminal stopped with Ctrl-S, a pager that waits for its user,
or a FIFO without a reader.  A worker thread does the writing, so a signal still ends the program.
O_NONBLOCK is no alternative: it would apply to all processes that share the terminal.  While a
write blocks, the switch queues frames for this client, and drops some when the queue is full: a
slow capture loses only its own frames.
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

STDOUT_FD: Final = 1
STDOUT_NAME: Final = "-"

# The time that a write in progress gets when the capture is cancelled, so that a capture does not
# end inside a record because a disk was slow.
LAST_WRITE_S: Final = 0.25

# The frames of other people are for the user alone.
FILE_MODE: Final = 0o600

# The errors that are solved by making room.
DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


async def capture(path: str, pcap: str | None = None) -> None:
    """Connect to a switch and write the frames that it sends.

    It ends when it is cancelled, or when the output is a pipe that has no reader any more.  Each
    batch of frames is written as it comes.  On cancellation, a write in progress gets
    `LAST_WRITE_S`.

    Args:
        path: the socket of the switch.
        pcap: the file for a capture in the pcap format, ``-`` for stdout; an existing file is
            replaced.  None writes lines to stdout.

    Raises:
        UsageError: a capture would be written to a terminal.
        SetupError: no program listens on `path`, or the output cannot be written.
        EndpointGone: the switch closed the connection.
    """
    # First of all, so that a usage error does not depend on which programs are running.
    if pcap == STDOUT_NAME:
        _refuse_terminal(STDOUT_FD, "stdout")
    failure: VknetError | None = None
    async with (
        await open_seqpacket(path) as endpoint,
        _open_output(pcap) as output,
        trio.open_nursery() as nursery,
    ):
        log.info("capturing as a client of %s; press Ctrl-C to stop", path)
        nursery.start_soon(output.wait_for_reader_exit, nursery.cancel_scope)
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
        # Opening a FIFO waits for its reader.  Frames that came before that are too old.
        endpoint.discard(DropReason.STALE)
        await output.write(file_header())
    format_batch = _records if as_pcap else _lines
    while True:
        frames = await endpoint.receive()
        await output.write(format_batch(frames, time.time()))


def _records(frames: Sequence[Frame], now: float) -> bytes:
    return b"".join([record(frame, now) for frame in frames])


def _lines(frames: Sequence[Frame], now: float) -> bytes:
    whole, fraction = divmod(round(now * 1_000_000), 1_000_000)
    stamp = f"{time.strftime('%H:%M:%S', time.localtime(whole))}.{fraction:06d}"
    return "".join([f"{stamp} {describe(frame)}\n" for frame in frames]).encode("ascii")


# --- the output -----------------------------------------------------------------------------------


class _Output:
    """A file or a stream that a worker thread writes to, without a buffer."""

    def __init__(self, name: str, file: FileIO) -> None:
        self._name = name
        self._file = file

    async def write(self, data: bytes) -> None:
        """Write all of `data`.

        When cancelled, it returns within `LAST_WRITE_S`; a part may have been written.

        Raises:
            BrokenPipeError: there is no reader any more.
            SetupError: the output cannot be written.
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
            with trio.move_on_after(LAST_WRITE_S, shield=True):
                await ended.wait()
            raise
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise SetupError(_cannot_write(self._name, exc)) from exc

    async def wait_for_reader_exit(self, scope: trio.CancelScope) -> None:
        """Cancel the scope when a pipe has no reader any more, even if no frame is written.

        The write end of a pipe becomes readable when its last reader closes, and only then.  It
        returns at once if the output is not such a pipe.
        """
        fd = self._file.fileno()
        write_only = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        if write_only and stat.S_ISFIFO(os.fstat(fd).st_mode):
            await trio.lowlevel.wait_readable(fd)
            scope.cancel()


def _write_all(file: FileIO, data: bytes) -> None:
    """Write all of `data`, however long it takes; runs in a worker thread.

    Raises:
        OSError: the file cannot be written.
        ValueError: the file was closed, after the wait for this thread was given up.
    """
    rest = memoryview(data)
    while rest:
        written = file.write(rest)
        if written is None:
            # Another process that shares the pipe or terminal has set O_NONBLOCK; leave it set.
            poll = select.poll()
            poll.register(file, select.POLLOUT)
            poll.poll()
        else:
            rest = rest[written:]


@asynccontextmanager
async def _open_output(pcap: str | None) -> AsyncIterator[_Output]:
    """Open the output, and close it at the end; a thread may still be writing to it then.

    Raises:
        UsageError: it is a terminal.
        SetupError: it cannot be opened, or closing it reports that the data were not written.
    """
    if pcap is None or pcap == STDOUT_NAME:
        # The descriptor belongs to the process, and stays open.
        with FileIO(STDOUT_FD, "w", closefd=False) as file:
            yield _Output("stdout", file)
        return
    try:
        # Opening a FIFO blocks until it has a reader.
        file = await trio.to_thread.run_sync(_create, pcap, abandon_on_cancel=True)
    except OSError as exc:
        raise SetupError(_cannot_write(pcap, exc)) from exc
    try:
        _refuse_terminal(file.fileno(), pcap)
        yield _Output(pcap, file)
    finally:
        # close(2): a network file system may report only now that it is full.
        try:
            file.close()
        except OSError as exc:
            raise SetupError(_cannot_write(pcap, exc)) from exc


def _create(path: str) -> FileIO:
    """Create or truncate a file; runs in a worker thread."""

    def create(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOCTTY, FILE_MODE)

    file = FileIO(path, "w", opener=create)
    try:
        trio.from_thread.check_cancelled()
    except trio.Cancelled:
        # A reader opened the FIFO only after the capture was cancelled.
        file.close()
        raise
    return file


def _refuse_terminal(fd: int, name: str) -> None:
    if os.isatty(fd):
        raise UsageError(
            f"{name} is a terminal, and a capture is binary: write it to a file, or to a program"
            " that reads it, such as: --pcap - | wireshark -k -i -"
        )


def _cannot_write(name: str, exc: OSError) -> str:
    if exc.errno in DISK_FULL:
        return f"{name}: {exc.strerror}; make room, or write to another file"
    return f"{name}: cannot be written: {exc.strerror}; choose another file"
