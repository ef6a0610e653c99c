"""This program's own stdin and stdout as a byte stream: the remote half, as sshd started it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from typing import TYPE_CHECKING, Final

import trio

from vknet.errors import UsageError
from vknet.transport.base import Transport
from vknet.transport.pipes import PipeStream

if TYPE_CHECKING:
    from vknet.transport.base import ByteStream, StartSoon

__all__ = ["StdioTransport"]

STDIN: Final = 0
STDOUT: Final = 1


class StdioTransport(Transport):
    """The byte stream on stdin and stdout.

    O_NONBLOCK belongs to the open file, which the two may share with each other and with other
    programs.  Each stream restores the flag when it is closed.  stdin is opened first and closed
    last, so its restored flag is the one that stays.

    Raises:
        UsageError: stdin or stdout is closed, a terminal, or open for the wrong direction.
    """

    def __init__(self, peer: str) -> None:
        super().__init__(peer)
        # Python has None for a stream that was closed at its start.
        if sys.stdin is None or sys.stdout is None:
            raise UsageError("-S needs stdin and stdout: they are the link")
        if os.isatty(STDIN) or os.isatty(STDOUT):
            raise UsageError("-S is started by ssh, not by hand: stdin and stdout are the link")
        for fd, useless in ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY)):
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == useless:
                raise UsageError("-S needs a stdin to read from and a stdout to write to")

    def refuse(self, last_block: bytes) -> None:
        """Write one block, such as a BYE, instead of opening the stream."""
        with contextlib.suppress(OSError):
            os.write(STDOUT, last_block)

    async def open(self, start_soon: StartSoon) -> ByteStream:
        del start_soon
        # Duplicates: closing them leaves descriptors 0 and 1 taken.
        stdin, stdout = (trio.lowlevel.FdStream(os.dup(fd)) for fd in (STDIN, STDOUT))
        stream = PipeStream(stdout, stdin)
        self.reached.set()
        return stream
