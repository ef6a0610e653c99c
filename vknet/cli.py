"""The vknet command: signals, the exit status, and what happens between.

Nothing is started before every argument has been understood.  Exit status: 0 after SIGTERM, SIGINT
or SIGHUP; 1 when the link was lost or never came about; 2 for wrong arguments.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from vknet.arguments import Settings, parse_arguments
from vknet.carrier import StdioCarrier
from vknet.endpoints import open_endpoint
from vknet.errors import PeerGone, UsageError, VknetError, printable
from vknet.framing import Wire
from vknet.link import Link
from vknet.monitor import Counters, Monitor
from vknet.retry import keep_linked
from vknet.speaking import background_log, keep_standard_descriptors
from vknet.ssh import SshDialer

if TYPE_CHECKING:
    from types import FrameType

    from vknet.ssh_command import SshSettings

__all__ = ["main"]

log = logging.getLogger("vknet")

EXIT_STOPPED: Final = 0
EXIT_LOST: Final = 1
EXIT_USAGE: Final = 2

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def run(settings: Settings) -> int:
    """Do what the settings ask for until it ends or a signal comes; the exit status."""
    monitor = Monitor()
    status = EXIT_STOPPED
    async with trio.open_nursery() as nursery:
        # Signals cancel the work alone: they are still received while it is brought to its end.
        work = trio.CancelScope()
        await nursery.start(_obey_signals, work, monitor)
        with work:
            if settings.ssh is None:
                status = await _remote_half(settings, monitor)
            else:
                status = await _client(settings, settings.ssh, monitor)
        nursery.cancel_scope.cancel()
    counters = monitor.counters
    if counters != Counters():
        log.info("%s", _summary(counters))
    return status


async def _obey_signals(
    work: trio.CancelScope,
    monitor: Monitor,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """SIGTERM, SIGINT and SIGHUP are a clean stop; SIGUSR1 asks for the counters."""
    # What was ignored when we were started stays ignored: nohup(1).
    wanted = (*STOP_SIGNALS, signal.SIGUSR1)
    signals = [s for s in wanted if signal.getsignal(s) is not signal.SIG_IGN]
    if not signals:
        task_status.started()
        return
    with trio.open_signal_receiver(*signals) as received:
        task_status.started()
        async for number in received:
            if number == signal.SIGUSR1:
                log.warning("%s", _summary(monitor.counters))
            elif not work.cancel_called:
                log.info("stopped by %s", signal.Signals(number).name)
                work.cancel()


def _summary(counters: Counters) -> str:
    """The counters in one line."""
    parts = []
    for name, direction in (("out", counters.outbound), ("in", counters.inbound)):
        drops = "".join(f", {n} dropped ({why})" for why, n in direction.drops.items() if n)
        parts.append(f"{name} {direction.frames} frames, {direction.bytes} bytes{drops}")
    return "carried: " + "; ".join(parts)


async def _client(settings: Settings, ssh: SshSettings, monitor: Monitor) -> int:
    try:
        await keep_linked(
            partial(open_endpoint, settings.spec, bridge=settings.bridge, mtu=settings.mtu),
            SshDialer(ssh),
            settings.retry,
            settings.link,
            monitor=monitor,
        )
    except UsageError as exc:
        log.error("%s", exc)
        return EXIT_USAGE
    except VknetError:
        # Said already, as every loss is.
        return EXIT_LOST


async def _remote_half(settings: Settings, monitor: Monitor) -> int:
    # Who is logged in from where, as sshd says it.
    peer = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    try:
        carrier = StdioCarrier(printable(peer) or "the client")
        try:
            endpoint = await open_endpoint(settings.spec, bridge=settings.bridge, mtu=settings.mtu)
        except VknetError as exc:
            if settings.link.wire is not Wire.V2:
                raise
            # The client says it to its user; said here as well, it would come twice.
            carrier.refuse(str(exc))
            return EXIT_LOST
        async with endpoint:
            await Link(endpoint, carrier, settings.link, monitor=monitor).run()
    except PeerGone as exc:
        log.info("%s", exc)
        return EXIT_LOST
    except VknetError as exc:
        log.error("%s", exc)
        return EXIT_USAGE if isinstance(exc, UsageError) else EXIT_LOST


def _stop_at_once(_number: int, _frame: FrameType | None) -> None:
    """A signal came when nothing had been started yet, or when all was brought to its end."""
    os._exit(EXIT_STOPPED)


def main() -> NoReturn:
    """The entry point of the ``vknet`` command."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop_at_once)
    keep_standard_descriptors()
    with background_log(log):
        try:
            settings = parse_arguments(sys.argv[1:], os.environ.get("SSH_ORIGINAL_COMMAND", ""))
            # The remote half speaks up only when something is wrong: its user is on the other side.
            level = logging.INFO if settings.ssh else logging.WARNING
            log.setLevel(max(logging.DEBUG, level - 10 * settings.verbosity))
            status = trio.run(run, settings)
        except UsageError as exc:
            log.error("%s", exc)
            status = EXIT_USAGE
    sys.exit(status)
