"""What the vknetd command does once its arguments are understood."""

from __future__ import annotations

import json
import logging
import pwd
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import trio

from vknet.capture.capture import capture
from vknet.cli.logs import background_syslog
from vknet.cli.signals import obey_signals
from vknet.cli.vknetd_args import COMMAND, Action, Settings
from vknet.errors import UsageError, VknetError
from vknet.exit_codes import EXIT_FAILED, EXIT_STOPPED, EXIT_USAGE
from vknet.spec import DEFAULT_SOCKET
from vknet.vknetd import control
from vknet.vknetd.daemon import Daemon
from vknet.vknetd.settings import DEFAULT_MODE
from vknet.vknetd.sockets import adopt, listen_at
from vknet.vknetd.status import text_of
from vknet.vknetd.systemd import Background, notify, take_sockets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager, ExitStack

    from vknet.vknetd.sockets import Listeners

__all__ = ["ask", "serve"]

log = logging.getLogger("vknet")


async def ask(settings: Settings) -> int:
    """Be a client of a vknetd that runs, until that ends or a signal comes; the exit status."""
    return await _until_stopped(partial(_be_a_client, settings), _nothing)


async def serve(settings: Settings, background: Background | None, speaking: ExitStack) -> int:
    """Be the switch until a signal comes; the exit status.

    Args:
        settings: of the command line.
        background: told when everything is there.
        speaking: holds the log on stderr, to be changed for syslog in the background.
    """

    def ready(summary: str) -> None:
        log.info("ready: %s", summary)
        notify("READY=1", f"STATUS={summary}")
        if background is not None:
            # The last words reach the terminal before it is let go of.
            speaking.close()
            background.ready()
            speaking.enter_context(background_syslog(log, COMMAND))

    def report() -> None:
        for line in text_of(daemon.status()).splitlines():
            log.warning("%s", line)

    try:
        with _listening(settings) as listeners:
            daemon = Daemon(settings, listeners)
            return await _until_stopped(
                partial(daemon.run, ready), report, partial(notify, "STOPPING=1")
            )
    except VknetError as exc:
        log.error("%s", exc)
        return EXIT_FAILED


def _listening(settings: Settings) -> AbstractContextManager[Listeners]:
    """The sockets that were handed over, or else our own."""
    sockets = take_sockets()
    if not sockets:
        return listen_at(settings.path, settings.mode, settings.group)
    if settings.path != DEFAULT_SOCKET or settings.mode != DEFAULT_MODE or settings.group:
        log.warning("the socket is the service manager's; -p, --mode and --group mean nothing")
    return adopt(sockets)


async def _until_stopped(
    work: Callable[[], Awaitable[None]],
    report: Callable[[], None],
    stopping: Callable[[], None] | None = None,
) -> int:
    """Do this until it ends or a signal comes; the exit status."""
    status = EXIT_STOPPED
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        await nursery.start(obey_signals, scope, report, stopping)
        with scope:
            try:
                await work()
            except UsageError as exc:
                log.error("%s", exc)
                status = EXIT_USAGE
            except VknetError as exc:
                log.error("%s", exc)
                status = EXIT_FAILED
        nursery.cancel_scope.cancel()
    return status


async def _be_a_client(settings: Settings) -> None:
    if settings.action is Action.CAPTURE:
        await capture(settings.path, settings.pcap)
        return
    status = await control.ask(settings.path)
    text = json.dumps(status, indent=2) if settings.json else text_of(status, _user_name)
    # Whoever reads may have seen enough.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.stdout.write(f"{text}\n")


def _nothing() -> None:
    """There is nothing to report."""


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
