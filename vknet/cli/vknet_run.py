"""The vknet command after its arguments are parsed: the client, or the remote half."""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import trio

from vknet.cli.coalescing import Coalescing
from vknet.cli.malloc import collect_after_links, tune_malloc
from vknet.cli.signals import run_until_signal
from vknet.counters import Counters
from vknet.endpoints import open_endpoint
from vknet.endpoints.isolated import dismiss
from vknet.endpoints.tap_attach import TapPermissionError, creation_commands, user_name
from vknet.errors import PeerGone, UsageError, VknetError, escaped
from vknet.exit_codes import EXIT_FAILED, EXIT_USAGE
from vknet.link.host_changes import HostChanges
from vknet.link.link import Link
from vknet.link.route_guard import RouteGuard
from vknet.link.supervisor import keep_linked
from vknet.monitor import Monitor
from vknet.spec import TapSpec, parse_spec
from vknet.transport.ssh import SshDialer
from vknet.transport.stdio import StdioTransport
from vknet.wire.blocks import BYE_LIMIT, Bye, Wire
from vknet.wire.encoder import encode_control

if TYPE_CHECKING:
    from vknet.cli.vknet_args import Settings
    from vknet.endpoints.base import Endpoint
    from vknet.transport.ssh_command import SshSettings

__all__ = ["run"]

log = logging.getLogger(__name__)


async def run(settings: Settings) -> int:
    """Run the client or the remote half until it ends or a signal comes.

    Returns:
        The exit status.
    """
    tune_malloc()
    trio.lowlevel.add_instrument(Coalescing())
    monitor = Monitor()
    if settings.ssh is None:
        work = partial(_remote_half, settings, monitor)
    else:
        work = partial(_client, settings, settings.ssh, monitor)
    status = await run_until_signal(work, partial(_log_counters, monitor))
    counters = monitor.counters
    if counters != Counters():
        log.info("%s", _summary(counters))
    return status


def _log_counters(monitor: Monitor) -> None:
    log.warning("%s", _summary(monitor.counters))


def _summary(counters: Counters) -> str:
    """Write the counters in one line."""
    parts = []
    for name, direction in (("out", counters.outbound), ("in", counters.inbound)):
        drops = "".join(f", {n} dropped ({reason})" for reason, n in direction.drops.items() if n)
        marks = f", {direction.ecn_marks} marked (ECN)" if direction.ecn_marks else ""
        parts.append(f"{name} {direction.frames} frames, {direction.bytes} bytes{drops}{marks}")
    return "carried: " + "; ".join(parts)


async def _open_endpoint(settings: Settings) -> Endpoint:
    """Open the endpoint of the spec, and dismiss the process that was started in advance for it."""
    try:
        return await open_endpoint(settings.spec, bridge=settings.bridge, mtu=settings.mtu)
    finally:
        dismiss()


class _LocalEndpoint:
    """Opens the client's endpoint, and tells the user once what the far side may need, too.

    A user who may not create TAPs here often may not do so there.
    """

    def __init__(self, settings: Settings, ssh: SshSettings) -> None:
        self._settings = settings
        self._ssh = ssh
        self._told = False

    async def open(self) -> Endpoint:
        try:
            return await _open_endpoint(self._settings)
        except TapPermissionError:
            target = self._ssh.target
            spec, user = parse_spec(target.spec), target.user or user_name()
            if not self._told and isinstance(spec, TapSpec) and user != "root":
                self._told = True
                name, bridge = spec.name or "tap0", self._ssh.remote_bridge
                log.info(
                    "%s may need a TAP, too; as root there, once: %s",
                    target.host,
                    creation_commands(name, user, bridge, add_bridge=False),
                )
            raise


async def _client(settings: Settings, ssh: SshSettings, monitor: Monitor) -> int:
    try:
        await _keep_linked(settings, ssh, monitor)
    except UsageError as exc:
        log.error("%s", exc)
        return EXIT_USAGE
    except VknetError:
        # `keep_linked` has logged it, as it logs every loss.
        return EXIT_FAILED


async def _keep_linked(settings: Settings, ssh: SshSettings, monitor: Monitor) -> NoReturn:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect_after_links, monitor)
        dialer = SshDialer(ssh)
        if isinstance(settings.spec, TapSpec):
            nursery.start_soon(RouteGuard(monitor, dialer.peer_address).run)
        try:
            with HostChanges() as changes:
                await keep_linked(
                    _LocalEndpoint(settings, ssh).open,
                    dialer,
                    settings.retry,
                    settings.link,
                    monitor=monitor,
                    changes=changes,
                )
        except VknetError as exc:
            # Not raised in the nursery, which would make an exception group of it.
            failure = exc
        nursery.cancel_scope.cancel()
    raise failure


async def _remote_half(settings: Settings, monitor: Monitor) -> int:
    # sshd puts the client's address first, see ssh(1).
    peer = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    if settings.asked is not None:
        log.warning(
            "the forced command sets the spec and the bridge; the client asked for %s",
            settings.asked,
        )
    try:
        transport = StdioTransport(escaped(peer) or "the client")
        try:
            endpoint = await _open_endpoint(settings)
        except VknetError as exc:
            if settings.link.wire is not Wire.V2:
                raise
            # The client prints the reason.  Printed here as well, it would appear twice.
            if len(str(exc)) > BYE_LIMIT:
                # The end of the message is the remedy.
                log.error("%s", exc)
            transport.refuse(encode_control(Bye(str(exc))))
            return EXIT_FAILED
        async with endpoint:
            await Link(endpoint, transport, settings.link, monitor=monitor).run()
    except PeerGone as exc:
        log.info("%s", exc)
        return EXIT_FAILED
    except VknetError as exc:
        log.error("%s", exc)
        return EXIT_USAGE if isinstance(exc, UsageError) else EXIT_FAILED
