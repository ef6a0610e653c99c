"""Changes of this host after which an attempt to connect may succeed at once.

* An interface, an address or a route changed: rtnetlink(7) sends a message to the groups below.
* The host was suspended: CLOCK_BOOTTIME went on, CLOCK_MONOTONIC did not.
* The process was stopped, and SIGCONT resumed it: a short sleep took much longer.

The messages only have to arrive.  Nothing is parsed, so a socket of the standard library is enough.
pyroute2 would parse all of them, and needs a process of its own (`vknet.endpoints.netlink`) for as
long as it watches.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["HostChanges"]

log = logging.getLogger(__name__)

# linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR and
# RTMGRP_IPV6_ROUTE.
GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400

MESSAGE_BYTES: Final = 65536

# The interval at which the clocks are read during a wait.
TICK_S: Final = 1.0

# A jump of the clocks by more than this is a suspension.  A busy machine is late by less.
JUMP_S: Final = 5.0


class HostChanges:
    """Notices changes of this host; a context manager that owns a netlink socket.

    Without a netlink socket, only suspensions are noticed.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
                socket.NETLINK_ROUTE,
            )
            self._socket.bind((0, GROUPS))
        except OSError as exc:
            log.debug("changes of the network are not noticed: %s", exc.strerror)
            self.close()
        self._asleep = suspended_s()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; a second call has no effect."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def clear(self) -> None:
        """Forget the changes so far."""
        self._drain()
        self._asleep = suspended_s()

    async def wait(self) -> str:
        """Wait for a change since the last call of `clear`, or of this method.

        Returns:
            What happened, for the log.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if suspended_s() - self._asleep > JUMP_S:
                self._asleep = suspended_s()
                return "this host was suspended"
            if self._drain():
                return "the network of this host changed"
            before = time.monotonic()
            with trio.move_on_after(TICK_S):
                if self._socket is None:
                    await trio.sleep_forever()
                else:
                    await trio.lowlevel.wait_readable(self._socket)
            if time.monotonic() - before > TICK_S + JUMP_S:
                return "vknet was stopped and resumed"

    def _drain(self) -> bool:
        """Read what has arrived; return whether there was anything."""
        arrived = False
        while self._socket is not None:
            try:
                self._socket.recv(MESSAGE_BYTES, socket.MSG_TRUNC)
            except BlockingIOError:
                break
            except OSError as exc:
                # ENOBUFS: more messages than the socket holds.  The error is reported once.
                log.debug("netlink: %s", exc.strerror)
            arrived = True
        return arrived


def suspended_s() -> float:
    """Return the seconds for which this host was suspended since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
