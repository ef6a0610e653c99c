"""The control socket: each connection gets the status as one JSON object, and is then closed."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from vknet.errors import SetupError
from vknet.vknetd.settings import CONTROL_SUFFIX

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

__all__ = ["ask", "serve"]

# The time for one answer, on either side.
ANSWER_TIMEOUT_S: Final = 5.0

# The maximum number of connections.  Each takes a descriptor until its answer is read.
CONNECTIONS_MAX: Final = 32

# Frames wait while an answer is made, which takes long for a full table.  An answer is therefore
# reused for this many times as long as it took to make, which leaves that share to the frames.
REUSE_RATIO: Final = 4


async def serve(listener: socket.socket, status: Callable[[], Mapping[str, Any]]) -> None:
    """Answer every connection, until cancelled.

    Args:
        listener: the control socket.  It is closed in the end.
        status: returns the status, in types that JSON has.
    """
    connections = 0
    text, reuse_until = b"", -math.inf

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal connections, text, reuse_until
        connections += 1
        try:
            async with stream:
                if connections > CONNECTIONS_MAX:
                    return
                before = time.monotonic()
                if before >= reuse_until:
                    text = json.dumps(status()).encode() + b"\n"
                    after = time.monotonic()
                    reuse_until = after + REUSE_RATIO * (after - before)
                with trio.move_on_after(ANSWER_TIMEOUT_S), suppress(trio.BrokenResourceError):
                    await stream.send_all(text)
        finally:
            connections -= 1

    listening = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    await trio.serve_listeners(answer, [listening])


async def ask(path: str) -> dict[str, Any]:
    """Return the status of the vknetd that listens on this path.

    Args:
        path: that of the first socket, without `CONTROL_SUFFIX`.

    Raises:
        SetupError: no vknetd listens there, it does not answer, or this user may not ask it.
    """
    control = path + CONTROL_SUFFIX
    try:
        with trio.fail_after(ANSWER_TIMEOUT_S):
            async with await trio.open_unix_socket(control) as stream:
                answer = b"".join([part async for part in stream])
    except PermissionError as exc:
        raise SetupError(
            f"{control}: no permission to ask; join the group that owns it (ls -l {control})"
        ) from exc
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        raise SetupError(
            f"no vknetd listens on {path}; start it, or choose another socket with -p"
        ) from exc
    except (OSError, trio.BrokenResourceError, trio.TooSlowError) as exc:
        raise SetupError(f"the vknetd at {path} does not answer") from exc
    try:
        status = json.loads(answer)
    except (ValueError, RecursionError) as exc:
        raise SetupError(f"the program that answers at {control} is not vknetd") from exc
    if not isinstance(status, dict):
        raise SetupError(f"the program that answers at {control} is not vknetd")
    return status
