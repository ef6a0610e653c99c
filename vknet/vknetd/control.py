"""The control socket: whoever connects is sent the status as one JSON object, and the end."""

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

# Somebody who reads slowly is not waited for; nor do many at a time get an answer: each has a
# descriptor.
ANSWER_WITHIN: Final = 5.0
ASKING_MAX: Final = 32

# The frames wait while an answer is written down, which for a full table takes long.  So it is good
# for others as well, for as many times what it took: that much of the time is the frames'.
FRAMES_SHARE: Final = 4


async def serve(listener: socket.socket, status: Callable[[], Mapping[str, Any]]) -> None:
    """Answer everybody who connects, until cancelled; the socket is closed then."""
    asking = 0
    text, good_until = b"", -math.inf

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal asking, text, good_until
        asking += 1
        try:
            async with stream:
                if asking > ASKING_MAX:
                    return
                before = time.monotonic()
                if before >= good_until:
                    text = json.dumps(status()).encode() + b"\n"
                    after = time.monotonic()
                    good_until = after + FRAMES_SHARE * (after - before)
                with trio.move_on_after(ANSWER_WITHIN), suppress(trio.BrokenResourceError):
                    await stream.send_all(text)
        finally:
            asking -= 1

    listening = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    await trio.serve_listeners(answer, [listening])


async def ask(path: str) -> dict[str, Any]:
    """The status of the vknetd that listens at this path.

    Raises:
        SetupError: there is none, or this user may not ask it.
    """
    control = path + CONTROL_SUFFIX
    try:
        with trio.fail_after(ANSWER_WITHIN):
            async with await trio.open_unix_socket(control) as stream:
                answer = b"".join([part async for part in stream])
    except PermissionError as exc:
        raise SetupError(
            f"{control}: no right to ask; be one of the group that owns it (ls -l {control})"
        ) from exc
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        raise SetupError(f"no vknetd listens at {path}; start it, or choose with -p") from exc
    except (OSError, trio.BrokenResourceError, trio.TooSlowError) as exc:
        raise SetupError(f"the vknetd at {path} does not answer") from exc
    try:
        status = json.loads(answer)
    except ValueError as exc:
        raise SetupError(f"what answers at {control} is no vknetd") from exc
    if not isinstance(status, dict):
        raise SetupError(f"what answers at {control} is no vknetd")
    return status
