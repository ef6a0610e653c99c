"""Running in the background: on one's own, or under systemd.

Theory.  systemd hands over sockets it listens on from descriptor 3 on, says how many in LISTEN_FDS
and to whom in LISTEN_PID (sd_listen_fds(3)), and wants to be told on the datagram socket
NOTIFY_SOCKET when the service is ready (sd_notify(3)).  Without it a daemon forks, and its parent
ends when it is ready, with the status it would have had in the foreground.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Final, NoReturn

from vknet.errors import SetupError

__all__ = ["Background", "is_managed", "notify", "take_sockets"]

log = logging.getLogger(__name__)

FIRST_SOCKET: Final = 3
STANDARD_DESCRIPTORS: Final = 3
READY: Final = b"+"

# How long the manager's queue may stay full, in seconds.
NOTIFY_PATIENCE: Final = 2.0


def is_managed() -> bool:
    """Whether a service manager started this process, and so has put it in the background."""
    return "NOTIFY_SOCKET" in os.environ or os.environ.get("LISTEN_PID") == str(os.getpid())


def take_sockets() -> list[socket.socket]:
    """The sockets that a service manager handed over; they are the caller's, and only once.

    What a process started from here inherits of the environment does not offer them again.

    Raises:
        SetupError: a descriptor that was announced is none of a socket.
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
                f"descriptor {fd} is no socket, though LISTEN_FDS={count} says so; in a socket"
                " unit, ListenSequentialPacket= and ListenStream= alone have a meaning here"
            ) from exc
    return sockets


def notify(*assignments: str) -> None:
    """Tell the service manager, if there is one: ``READY=1``, ``STATUS=...``.

    It waits a moment for room in the manager's queue: a ``READY=1`` that is lost would have the
    service killed after its time to start.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(NOTIFY_PATIENCE)
            # Only of a socket that is connected does poll(2) tell that there is room.
            sock.connect(address)
            sock.send("\n".join(assignments).encode())
    except OSError as exc:
        log.warning("the service manager cannot be told: %s", exc.strerror or exc)


class Background:
    """A process that leaves its terminal behind once it is ready."""

    def __init__(self) -> None:
        """Fork.  Only the child returns from this; before there is a second thread."""
        read_end, self._write_end = os.pipe()
        child = os.fork()
        if child:
            os.close(self._write_end)
            _wait_for(read_end, child)
        os.close(read_end)

    def ready(self) -> None:
        """The parent ends well; the terminal is let go of."""
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(STANDARD_DESCRIPTORS):
            os.dup2(null, fd)
        os.close(null)
        os.write(self._write_end, READY)
        os.close(self._write_end)


def _wait_for(read_end: int, child: int) -> NoReturn:
    """The parent: wait until the child is ready, or has ended and said why."""
    if os.read(read_end, 1) == READY:
        os._exit(0)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
