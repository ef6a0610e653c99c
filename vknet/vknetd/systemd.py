"""Running in the background, with or without systemd.

systemd passes listening sockets as descriptors 3 and up.  LISTEN_FDS is their number, and
LISTEN_PID is the process they are for (sd_listen_fds(3)).  It expects a message on the datagram
socket NOTIFY_SOCKET when the service is ready (sd_notify(3)).

Without systemd a daemon forks.  Its parent exits when the daemon is ready, or with the daemon's
exit status if that ends before.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Final, NoReturn

from vknet.errors import SetupError

__all__ = ["Background", "is_managed", "notify", "take_sockets"]

log = logging.getLogger(__name__)

# SD_LISTEN_FDS_START of sd_listen_fds(3).
FIRST_SOCKET: Final = 3

STANDARD_DESCRIPTORS: Final = 3

# The message from the daemon to its parent.
READY: Final = b"+"

# The time to wait while the queue of the manager's socket is full.
NOTIFY_TIMEOUT_S: Final = 2.0


def is_managed() -> bool:
    """Whether a service manager started this process, so that it need not fork."""
    return "NOTIFY_SOCKET" in os.environ or os.environ.get("LISTEN_PID") == str(os.getpid())


def take_sockets() -> list[socket.socket]:
    """Return the sockets that a service manager has passed; the caller owns them.

    It removes the variables from the environment: a second call returns none, and neither does a
    child process believe that the sockets are its own.

    Raises:
        SetupError: a descriptor is not a socket.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    sockets: list[socket.socket] = []
    for fd in range(FIRST_SOCKET, FIRST_SOCKET + int(count)):
        try:
            os.set_inheritable(fd, False)
            sockets.append(socket.socket(fileno=fd))
        except OSError as exc:
            for sock in sockets:
                sock.close()
            raise SetupError(
                f"descriptor {fd} is not a socket, contrary to LISTEN_FDS={count}; a socket unit"
                " for vknetd may have ListenSequentialPacket= and ListenStream= only"
            ) from exc
    return sockets


def notify(*assignments: str) -> None:
    """Send assignments such as ``READY=1`` to the service manager, if there is one.

    If the queue of its socket is full, this blocks for at most `NOTIFY_TIMEOUT_S`: a service whose
    ``READY=1`` is lost would be killed when its start-up time is over.  An error is logged.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(NOTIFY_TIMEOUT_S)
            # poll(2) waits for room in the queue only if the socket is connected.
            sock.connect(address)
            sock.send("\n".join(assignments).encode())
    except OSError as exc:
        log.warning("cannot notify the service manager: %s", exc.strerror or exc)


class Background:
    """A daemon that detaches from its terminal when it is ready."""

    def __init__(self) -> None:
        """Fork.  Only the child returns.  The process must not have a second thread yet."""
        read_end, self._write_end = os.pipe()
        child = os.fork()
        if child:
            os.close(self._write_end)
            _wait_for(read_end, child)
        os.close(read_end)

    def ready(self) -> None:
        """Detach from the terminal, and let the parent exit with status 0."""
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(STANDARD_DESCRIPTORS):
            os.dup2(null, fd)
        os.close(null)
        os.write(self._write_end, READY)
        os.close(self._write_end)


def _wait_for(read_end: int, child: int) -> NoReturn:
    """Wait in the parent until the child is ready or has ended, and exit."""
    if os.read(read_end, 1) == READY:
        os._exit(0)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
