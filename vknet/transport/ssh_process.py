"""The ssh subprocess: how it starts, the pipe for its messages, and how it ends."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

import trio

from vknet.transport.ssh_command import STARTER

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["LogPipe", "as_child", "end_process"]

log = logging.getLogger(__name__)

# ssh ends by itself when its stdin ends; then it gets SIGTERM, then SIGKILL.
EOF_GRACE_S: Final = 0.5
TERM_GRACE_S: Final = 0.5

# Runs a program with SIGUSR1 ignored, which exec preserves.  `systemctl kill -s USR1` sends the
# signal to every process of a unit, and would kill ssh.  Python itself could ignore it for a child
# only in a preexec_fn, which is not safe with threads, or by ignoring it in this process meanwhile,
# which would lose a signal for vknet.  A blocked signal would not do: sudo unblocks it.
IGNORE_USR1: Final = ("/bin/sh", "-c", 'trap "" USR1; exec "$@"', STARTER)


def as_child(argv: list[str]) -> list[str]:
    """Return the command line that runs this one with SIGUSR1 ignored."""
    return [*IGNORE_USR1, *argv]


class LogPipe:
    """A pipe that a child process of this user can open by its name.

    ssh closes all inherited descriptors but the first three.  A FIFO would need a directory, and
    would stay behind if this process was killed.

    Attributes:
        stream: the reading end.
        path: the name of the writing end.
    """

    def __init__(self) -> None:
        reading, self._writing = os.pipe2(os.O_CLOEXEC)
        self.stream = trio.lowlevel.FdStream(reading)
        self.path = f"/proc/{os.getpid()}/fd/{self._writing}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def end(self) -> None:
        """Close the writing end, so that the reading end ends with the last writer."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    def close(self) -> None:
        """Close both ends; it may be called twice."""
        self.end()
        self.stream.close()


async def end_process(process: trio.Process) -> None:
    """End a process and reap it.

    Its stdin has ended: the link's sender ends the stream after its last block.  If the process is
    still running after `EOF_GRACE_S`, it gets SIGTERM, and after `TERM_GRACE_S` more SIGKILL.
    """
    for grace, signal_it in ((EOF_GRACE_S, process.terminate), (TERM_GRACE_S, process.kill)):
        with trio.move_on_after(grace):
            await process.wait()
        if process.returncode is None:
            try:
                signal_it()
            except PermissionError:
                # For example with -e "sudo ssh".
                log.error("no permission to end ssh; as root: kill %d", process.pid)
                return
    await process.wait()
