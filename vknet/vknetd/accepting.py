"""Accepting connections, also when descriptors are exhausted or the socket is replaced."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from vknet.vknetd.binding import RAISE_LIMIT
from vknet.vknetd.containment import Throttle

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from vknet.vknetd.sockets import Listener

__all__ = ["accept_all"]

log = logging.getLogger(__name__)

# The pause after accept(2) has failed, usually because descriptors or memory were exhausted, and
# the time from one message about it to the next.
ACCEPT_PAUSE_S: Final = 0.1
LOG_INTERVAL_S: Final = 60.0

# The client has disconnected before it was accepted.
DISCONNECTED: Final = (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR, errno.EPROTO)


async def accept_all(
    listener: Listener, what: str, take: Callable[[socket.socket], None]
) -> NoReturn:
    """Accept one connection per turn of the event loop, until cancelled.

    Args:
        listener: its socket may be replaced meanwhile.
        what: is accepted, for messages.
        take: called with each connection, which it must close.
    """
    throttle = Throttle(LOG_INTERVAL_S)
    while True:
        sock = listener.sock
        try:
            await trio.lowlevel.wait_readable(sock)
            connection, _ = sock.accept()
        except trio.ClosedResourceError:
            # It was replaced while this waited.
            await trio.lowlevel.checkpoint()
        except OSError as exc:
            if exc.errno not in DISCONNECTED:
                if throttle.is_due(trio.current_time()):
                    log.warning("cannot accept %s: %s%s", what, exc.strerror, _advice(exc))
                await trio.sleep(ACCEPT_PAUSE_S)
        else:
            take(connection)


def _advice(exc: OSError) -> str:
    if exc.errno == errno.EMFILE:
        return f"; {RAISE_LIMIT}"
    return ""
