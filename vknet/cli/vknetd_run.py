"""The vknetd command after its arguments are parsed: the switch, or a client of a running one."""

from __future__ import annotations

import json
import logging
import pwd
import re
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from vknet.capture.capture import capture
from vknet.cli.logs import background_syslog
from vknet.cli.malloc import tune_malloc
from vknet.cli.output import write_stdout
from vknet.cli.signals import run_until_signal
from vknet.cli.vknetd_args import COMMAND, Action, Settings
from vknet.errors import SetupError, UsageError, VknetError
from vknet.exit_codes import EXIT_FAILED, EXIT_STOPPED, EXIT_USAGE
from vknet.spec import DEFAULT_SOCKET
from vknet.vknetd.containment import contained
from vknet.vknetd.daemon import Daemon
from vknet.vknetd.pidfile import held
from vknet.vknetd.query import ask
from vknet.vknetd.settings import DEFAULT_MODE, DEFAULT_PIDFILE
from vknet.vknetd.sockets import adopt, listen_at
from vknet.vknetd.status import text_of
from vknet.vknetd.systemd import Background, notify, take_sockets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager

    from vknet.vknetd.sockets import Listeners

__all__ = ["run_client", "run_switch"]

log = logging.getLogger("vknet")


async def run_client(settings: Settings) -> int:
    """Do -c or --status until it ends or a signal comes; return the exit status."""
    return await run_until_signal(
        partial(_status_of, partial(_run_client, settings)), _report_nothing
    )


async def run_switch(
    settings: Settings, background: Background | None, log_stack: ExitStack
) -> int:
    """Run the switch until a signal comes; return the exit status.

    Args:
        settings: the parsed command line.
        background: told when the switch is ready; None in the foreground.
        log_stack: holds the log on stderr.  In the background, syslog takes its place.
    """
    daemon: Daemon | None = None

    def ready(summary: str) -> None:
        log.info("ready: %s", summary)
        if daemon is not None and daemon.uplink is not None:
            _print_uplink(daemon.uplink)
        notify("READY=1", f"STATUS={summary}")
        if background is not None:
            # This flushes the last lines to the terminal before the process detaches from it.
            log_stack.close()
            background.ready()
            log_stack.enter_context(background_syslog(log, COMMAND))

    def report() -> None:
        if daemon is None:
            return
        with contained("the status cannot be logged"):
            for line in text_of(daemon.status()).splitlines():
                log.warning("%s", line)

    async def serve() -> None:
        nonlocal daemon
        with _pid_file(settings, background), _listening(settings) as listeners:
            daemon = Daemon(settings, listeners)
            await daemon.run(ready)

    tune_malloc()
    return await run_until_signal(partial(_status_of, serve), report, partial(notify, "STOPPING=1"))


def _print_uplink(name: str) -> None:
    """Print the TAP on stdout, as the vknetd of 2008 does for scripts: with /dev/ for tapN."""
    path = f"/dev/{name}" if re.fullmatch(r"tap\d+", name) else name
    with suppress(SetupError):
        write_stdout(f"{path}\n")


@contextmanager
def _pid_file(settings: Settings, background: Background | None) -> Iterator[None]:
    """Keep the pid file: that of -i, or in the background the default one, if it can be written."""
    with ExitStack() as stack:
        if settings.pidfile is not None:
            stack.enter_context(held(settings.pidfile))
        elif background is not None and settings.path == DEFAULT_SOCKET:
            try:
                stack.enter_context(held(DEFAULT_PIDFILE))
            except SetupError as exc:
                log.warning("%s", exc)
        yield


def _listening(settings: Settings) -> AbstractContextManager[Listeners]:
    """Return the sockets of the service manager, or else sockets of our own."""
    sockets = take_sockets()
    if not sockets:
        return listen_at(settings.path, settings.mode, settings.group)
    if settings.path != DEFAULT_SOCKET or settings.mode != DEFAULT_MODE or settings.group:
        log.warning("the service manager owns the socket; -p, --mode and --group are ignored")
    return adopt(sockets)


async def _status_of(work: Callable[[], Awaitable[None]]) -> int:
    """Work, and return the exit status; an error is logged."""
    try:
        await work()
    except VknetError as exc:
        log.error("%s", exc)
        return EXIT_USAGE if isinstance(exc, UsageError) else EXIT_FAILED
    return EXIT_STOPPED


async def _run_client(settings: Settings) -> None:
    if settings.action is Action.CAPTURE:
        await capture(settings.path, settings.pcap)
        return
    status = await ask(settings.path)
    text = json.dumps(status, indent=2) if settings.json else text_of(status, _user_name)
    write_stdout(f"{text}\n")


def _report_nothing() -> None:
    """Ignore SIGUSR1: a client has nothing to report."""


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)
