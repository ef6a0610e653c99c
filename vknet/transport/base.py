"""What carries a link: a byte stream, and whatever has to live beside it.

The link's nursery holds everything; a carrier only says what that is.  `SshTransport`
(vknet.transport.ssh) brings a subprocess with it, `StreamTransport` a stream that somebody already
has.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

import trio

from vknet.errors import PeerGone, UsageError
from vknet.framing import Bye, encode_control
from vknet.transport.pipes import PipeStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from trio.abc import Stream

    from vknet.errors import VknetError

    StartSoon: TypeAlias = Callable[..., None]
    """Starts a task, as `trio.Nursery.start_soon` does."""

__all__ = ["StdioTransport", "StreamTransport", "Transport"]

STDIN: Final = 0
STDOUT: Final = 1


class Transport(ABC):
    """Opens the byte stream of one link, once.

    Attributes:
        peer: whom the stream leads to, for people.
        reached: set when the other end of the stream is known to be there.
    """

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.reached = trio.Event()

    @abstractmethod
    async def open(self, start_soon: StartSoon) -> Stream:
        """Open the byte stream, which the link will close.

        Tasks the stream needs are started with `start_soon`, in the link's own nursery: they end
        with it, and it ends with the first of them that fails.  When `open` is cancelled, nothing
        has been opened.

        Raises:
            SetupError: it cannot be opened.
        """

    async def why_ended(self) -> VknetError:
        """The stream has ended or broken: the error that says why.  Waits a moment to find out."""
        await trio.lowlevel.checkpoint()
        return PeerGone(f"{self.peer} closed the stream")


class StreamTransport(Transport):
    """A stream that is already open.  The link owns it from `open` on, and closes it."""

    def __init__(self, stream: Stream, peer: str = "the peer") -> None:
        super().__init__(peer)
        self._stream = stream

    async def open(self, start_soon: StartSoon) -> Stream:
        self.reached.set()
        return self._stream


class StdioTransport(Transport):
    """This program's own stdin and stdout: the remote half, as sshd started it.

    O_NONBLOCK belongs to the open file, which the two may share with each other and with other
    programs.  Each stream puts back what it found when it is closed; stdin, opened first, is closed
    last, so that what it found is what stays.
    """

    def __init__(self, peer: str) -> None:
        super().__init__(peer)
        # Python has None for what was closed when it started.
        if sys.stdin is None or sys.stdout is None:
            raise UsageError("-S needs stdin and stdout: they are the link")
        if os.isatty(STDIN) or os.isatty(STDOUT):
            raise UsageError("-S is started by ssh, not by hand: stdin and stdout are the link")
        for fd, useless in ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY)):
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == useless:
                raise UsageError("-S needs a stdin to read from and a stdout to write to")

    def refuse(self, reason: str) -> None:
        """Tell a client that speaks v2 why there will be no link, instead of opening one."""
        with contextlib.suppress(OSError):
            os.write(STDOUT, encode_control(Bye(reason)))

    async def open(self, start_soon: StartSoon) -> Stream:
        # Of duplicates, so that closing them leaves descriptors 0 and 1 taken.
        stdin, stdout = (trio.lowlevel.FdStream(os.dup(fd)) for fd in (STDIN, STDOUT))
        stream = PipeStream(stdout, stdin)
        self.reached.set()
        return stream
