"""The client of a control socket: ``vknetd --status``.

The program at the other end may be any: its answer is bounded in bytes and in time, and is checked
before it is used.
"""

from __future__ import annotations

import json
import logging
import socket
from typing import Any, Final

import trio

from vknet.errors import SetupError
from vknet.vknetd.settings import CONTROL_SUFFIX
from vknet.vknetd.status_shape import NotAStatus, checked_status

__all__ = ["ask"]

log = logging.getLogger(__name__)

# The longest answer: more than a full MAC table and `PORTS_SHOWN_MAX` ports need.
ANSWER_MAX_BYTES: Final = 4 * 1024 * 1024
READ_BYTES: Final = 65536

# The time until an answer begins: systemd may start vknetd first, on a busy machine.
START_TIMEOUT_S: Final = 30.0
# The time without an answer after which a message says so.
NOTE_AFTER_S: Final = 3.0
# The time from the beginning of an answer to its end.
ANSWER_TIMEOUT_S: Final = 10.0

# How often to try to connect while the queue of the listening socket is full.
CONNECT_TRIES: Final = 50
CONNECT_PAUSE_S: Final = 0.1


async def ask(path: str) -> dict[str, Any]:
    """Return the status of the vknetd that listens on this path.

    Args:
        path: that of the first socket, without `CONTROL_SUFFIX`.

    Raises:
        SetupError: no vknetd listens there, it is busy or does not answer, this user may not ask
            it, or another program answers.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        raw = await _answer(sock, path)
    control = path + CONTROL_SUFFIX
    if not raw:
        raise _ended(path)
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise SetupError(f"the program that answers at {control} is not vknetd") from exc
    if answer == {"busy": True}:
        raise _busy(path)
    try:
        return checked_status(answer)
    except NotAStatus as exc:
        raise SetupError(
            f"the program that answers at {control} is not vknetd, or one that this version cannot"
            f" read: {exc}"
        ) from exc


async def _answer(sock: socket.socket, path: str) -> bytes:
    """Connect, and return all that comes."""
    control = path + CONTROL_SUFFIX
    timeout = START_TIMEOUT_S
    try:
        with trio.fail_after(timeout):
            await _connect(sock, control)
            await _wait_for_answer(sock, path)
        timeout = ANSWER_TIMEOUT_S
        with trio.fail_after(timeout):
            return await _read(sock, control)
    except PermissionError as exc:
        raise SetupError(
            f"{control}: no permission to ask; join the group that owns it (ls -l {control})"
        ) from exc
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        raise SetupError(
            f"no vknetd listens on {path}; start it, or choose another socket with -p"
        ) from exc
    except BlockingIOError as exc:
        raise _busy(path) from exc
    except ConnectionResetError as exc:
        raise _ended(path) from exc
    except trio.TooSlowError as exc:
        raise SetupError(
            f"the vknetd at {path} does not answer within {timeout:g} s; is it stopped, or did it"
            " fail to start? (systemctl status vknetd)"
        ) from exc
    except OSError as exc:
        raise SetupError(
            f"the program that listens on {control} is not vknetd, or has just ended"
            f" ({exc.strerror})"
        ) from exc


async def _connect(sock: socket.socket, control: str) -> None:
    """Connect; while the queue of the listening socket is full, wait.

    Raises:
        BlockingIOError: it stays full.
        OSError: as connect(2).
    """
    for _ in range(CONNECT_TRIES):
        try:
            sock.connect(control)
        except BlockingIOError:
            await trio.sleep(CONNECT_PAUSE_S)
        else:
            return
    sock.connect(control)


async def _wait_for_answer(sock: socket.socket, path: str) -> None:
    with trio.move_on_after(NOTE_AFTER_S):
        await trio.lowlevel.wait_readable(sock)
        return
    log.info("waiting for the vknetd at %s: it is starting, or busy", path)
    await trio.lowlevel.wait_readable(sock)


async def _read(sock: socket.socket, control: str) -> bytes:
    """Read to the end.

    Raises:
        SetupError: the answer is too long.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            part = sock.recv(READ_BYTES)
        except BlockingIOError:
            continue
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > ANSWER_MAX_BYTES:
            raise SetupError(
                f"the program that answers at {control} is not vknetd: its answer is longer than"
                f" {ANSWER_MAX_BYTES} bytes"
            )


def _ended(path: str) -> SetupError:
    return SetupError(
        f"the vknetd at {path} ended before it answered; ask again, or see why it does not start"
        " (systemctl status vknetd)"
    )


def _busy(path: str) -> SetupError:
    return SetupError(f"the vknetd at {path} is busy with other requests; ask again later")
