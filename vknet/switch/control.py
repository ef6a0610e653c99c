"""The control socket: whoever connects is sent the status as one JSON object, and the end."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from vknet.errors import SetupError
from vknet.switch.arguments import CONTROL_SUFFIX

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

__all__ = ["ask", "serve"]

# Somebody who reads slowly is not waited for; nor do many at a time get an answer.
ANSWER_WITHIN: Final = 5.0
ASKING_MAX: Final = 8


async def serve(listener: socket.socket, status: Callable[[], Mapping[str, Any]]) -> None:
    """Answer everybody who connects, until cancelled; the socket is closed then."""
    asking = trio.CapacityLimiter(ASKING_MAX)

    async def answer(stream: trio.SocketStream) -> None:
        with trio.move_on_after(ANSWER_WITHIN), suppress(trio.BrokenResourceError):
            async with asking, stream:
                await stream.send_all(json.dumps(status()).encode() + b"\n")

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
