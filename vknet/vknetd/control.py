"""The control socket: each connection gets the status as one JSON object, and is then closed.

A connection that comes when too many wait for their answers gets `BUSY` instead.
"""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from vknet.vknetd.accepting import accept_all
from vknet.vknetd.containment import contained
from vknet.vknetd.peer import credentials_of, exempt_users
from vknet.vknetd.places import Places

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from vknet.vknetd.sockets import Listener

__all__ = ["BUSY", "serve"]

# The time for a client to read its answer.
ANSWER_TIMEOUT_S: Final = 5.0

# The maximum number of connections.  Each takes a descriptor until its answer is read.
CONNECTIONS_MAX: Final = 32

# Frames wait while an answer is made, which takes long for a full table.  An answer is therefore
# reused for this many times as long as it took to make, which leaves that share to the frames.
REUSE_RATIO: Final = 4

BUSY: Final = b'{"busy": true}\n'
"""The answer to a connection that there is no place for."""


async def serve(listener: Listener, status: Callable[[], Mapping[str, Any]]) -> None:
    """Answer every connection, until cancelled.

    Args:
        listener: the control socket; the caller closes it.
        status: returns the status, in types that JSON has.
    """
    places = Places(CONNECTIONS_MAX, exempt_users())
    text, reuse_until = b"", -math.inf

    async def answer(sock: socket.socket, uid: int) -> None:
        nonlocal text, reuse_until
        try:
            with contained("a request for the status failed"):
                async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
                    before = time.monotonic()
                    if before >= reuse_until:
                        text = json.dumps(status()).encode() + b"\n"
                        after = time.monotonic()
                        reuse_until = after + REUSE_RATIO * (after - before)
                    with trio.move_on_after(ANSWER_TIMEOUT_S), suppress(trio.BrokenResourceError):
                        await stream.send_all(text)
        finally:
            places.give_back(uid)

    def take(sock: socket.socket) -> None:
        uid = credentials_of(sock).uid
        if places.take(uid):
            nursery.start_soon(answer, sock, uid)
            return
        with sock, suppress(OSError):
            sock.setblocking(False)
            sock.send(BUSY)

    async with trio.open_nursery() as nursery:
        await accept_all(listener, "a request for the status", take)
