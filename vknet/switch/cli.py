"""The vknetd command: background or foreground, signals, the exit status.

Exit status: 0 after SIGTERM, SIGINT or SIGHUP; 1 when something fails; 2 for wrong arguments.
"""

from __future__ import annotations

import json
import logging
import pwd
import signal
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from vknet.errors import UsageError, VknetError
from vknet.process import (
    EXIT_FAILED,
    EXIT_STOPPED,
    EXIT_USAGE,
    obey_signals,
    stop_at_once_on_signals,
)
from vknet.speaking import background_log, background_syslog, keep_standard_descriptors
from vknet.switch import control
from vknet.switch.arguments import Action, Settings, parse
from vknet.switch.capture import capture
from vknet.switch.daemon import Daemon
from vknet.switch.listening import adopt, listen_at
from vknet.switch.service import Background, is_managed, notify, take_sockets
from vknet.switch.status import text_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["main"]

log = logging.getLogger("vknet")

COMMAND: Final = "vknetd"


def main() -> NoReturn:
    """The entry point of the ``vknetd`` command."""
    stop_at_once_on_signals()
    keep_standard_descriptors()
    settings = None
    with background_log(log, COMMAND):
        try:
            settings = parse(sys.argv[1:])
        except UsageError as exc:
            log.error("%s", exc)
    if settings is None:
        sys.exit(EXIT_USAGE)
    log.setLevel(max(logging.DEBUG, logging.INFO - 10 * settings.verbosity))
    if settings.action is not Action.SWITCH:
        with background_log(log, COMMAND):
            status = trio.run(_until_stopped, partial(_be_a_client, settings), _nothing)
        sys.exit(status)
    # Before there is a second thread.
    background = None if settings.foreground or is_managed() else Background()
    with ExitStack() as speaking:
        speaking.enter_context(background_log(log, COMMAND))
        status = trio.run(_switch, settings, background, speaking)
    sys.exit(status)


async def _switch(settings: Settings, background: Background | None, speaking: ExitStack) -> int:
    sockets = take_sockets()

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

    own = partial(listen_at, settings.path, settings.mode, settings.group)
    try:
        with adopt(sockets) if sockets else own() as listeners:
            daemon = Daemon(settings, listeners)
            return await _until_stopped(partial(daemon.run, ready), report)
    except VknetError as exc:
        log.error("%s", exc)
        return EXIT_FAILED
    finally:
        notify("STOPPING=1")


async def _until_stopped(work: Callable[[], Awaitable[None]], report: Callable[[], None]) -> int:
    """Do this until it ends or a signal comes; the exit status."""
    status = EXIT_STOPPED
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        await nursery.start(obey_signals, scope, report)
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
