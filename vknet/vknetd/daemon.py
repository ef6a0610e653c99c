"""vknetd: one nursery with a listening socket, its clients, a TAP, and a control socket.

    clients -> _accept -> Switch.serve, one port each, until they hang up
    TAP     -> _serve_tap -> Switch.serve, behind the source filter; made anew if it is deleted
    control -> the status, for whoever may ask

A client's end is its own affair; nothing of it ends the daemon.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import struct
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio

from vknet._version import __version__
from vknet.endpoints import netlink
from vknet.endpoints.seqpacket import SeqpacketEndpoint
from vknet.endpoints.tap import TapEndpoint, open_tap
from vknet.errors import EndpointGone, SetupError, escaped
from vknet.packet.ethernet import NO_MAC, is_multicast
from vknet.switch.filter import SourceFilter
from vknet.switch.switch import Switch
from vknet.switch.table import LIMIT
from vknet.vknetd import control
from vknet.vknetd.status import Peer, port_status, table_status

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Interface, IPv6Interface

    from vknet.endpoints.base import Endpoint
    from vknet.vknetd.settings import VknetdSettings
    from vknet.vknetd.sockets import Listeners

__all__ = ["Daemon"]

log = logging.getLogger(__name__)

# struct ucred of unix(7): pid, uid, gid.
CREDENTIALS: Final = struct.Struct("iII")

# How often the TAP looks after itself, and how long until a deleted one is made anew, in seconds.
MAINTAIN_INTERVAL_S: Final = 1.0

# After accept(2) failed for want of descriptors or memory, seconds.
RESPITE: Final = 0.1
WANTING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Descriptors beside those of clients: standard ones, listeners, trio's, the TAP, netlink's.
DESCRIPTORS: Final = 64


@dataclass(frozen=True, slots=True)
class Uplink:
    """The way out in secure mode.

    Attributes:
        filter: what may leave.
        macs: addresses that are the host's own.
    """

    filter: SourceFilter | None
    macs: tuple[bytes, ...]


class Daemon:
    """A switch with a way in for local programs, and a way out.

    Args:
        settings: of the command line.
        listeners: borrowed.
    """

    def __init__(self, settings: VknetdSettings, listeners: Listeners) -> None:
        self._settings = settings
        self._listeners = listeners
        self._switch = Switch(age=settings.age)
        self._peers: dict[Endpoint, Peer] = {}
        self._clients = 0
        self._refused = 0
        self._numbers = count(1)
        self._started = trio.current_time()

    async def run(self, ready: Callable[[str], None]) -> NoReturn:
        """Serve until cancelled.

        Args:
            ready: called once everything is there, with a line that says what.

        Raises:
            SetupError: the TAP cannot be had, and why.
        """
        _allow_descriptors(self._settings.clients + DESCRIPTORS)
        tap = None if self._settings.tap is None else await self._open_tap()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accept, nursery)
            nursery.start_soon(control.serve, self._listeners.control, self.status)
            if tap is None:
                uplink_text = "no way out"
            else:
                nursery.start_soon(self._keep_tap, *tap)
                uplink_text = f"{tap[0].name} the way out"
                uplink_text += f", in {tap[0].bridge}" if tap[0].bridge else ""
            ready(f"listening at {self._listeners.path}, {uplink_text}")
        raise AssertionError("it ends by being cancelled")

    # --- clients ----------------------------------------------------------------------------------

    async def _accept(self, nursery: trio.Nursery) -> None:
        listener = self._listeners.frames
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                sock, _ = listener.accept()
            except OSError as exc:
                # The client has gone again, or was somebody else's.
                if exc.errno in WANTING:
                    log.warning("no client can be taken in: %s", exc.strerror)
                    await trio.sleep(RESPITE)
                continue
            if self._clients >= self._settings.clients:
                sock.close()
                self._refused += 1
                self._say_refused()
                continue
            self._clients += 1
            nursery.start_soon(self._serve_client, sock)

    def _say_refused(self) -> None:
        # Not for each of a flood of them.
        if self._refused & (self._refused - 1) == 0:
            log.warning(
                "a client was refused: there are %d already (--clients); %d refused so far",
                self._clients,
                self._refused,
            )

    async def _serve_client(self, sock: socket.socket) -> None:
        name = f"client{next(self._numbers)}"
        try:
            async with SeqpacketEndpoint(sock, name) as endpoint:
                peer = self._peers[endpoint] = _peer(sock)
                log.debug("%s came: %s, pid %s, uid %s", name, peer.command, peer.pid, peer.uid)
                try:
                    await self._switch.serve(endpoint)
                except EndpointGone:
                    log.debug("%s has gone", name)
                finally:
                    del self._peers[endpoint]
        finally:
            self._clients -= 1

    # --- the way out ------------------------------------------------------------------------------

    async def _open_tap(self) -> tuple[TapEndpoint, Uplink]:
        settings = self._settings
        if settings.tap is None:
            raise AssertionError("only called where there is to be one")
        tap = await open_tap(settings.tap.name, bridge=settings.bridge, mtu=settings.mtu)
        try:
            return tap, await trio.to_thread.run_sync(partial(_set_up_uplink, settings, tap))
        except BaseException:
            with trio.CancelScope(shield=True):
                await tap.aclose()
            raise

    async def _keep_tap(self, tap: TapEndpoint, uplink: Uplink) -> None:
        """Have the TAP as a port for as long as the daemon runs."""
        while True:
            async with tap:
                why = await self._serve_tap(tap, uplink)
            log.warning("%s; it is made anew", why)
            tap, uplink = await self._reopen_tap()
            log.warning("%s is there again", tap.name)

    async def _serve_tap(self, tap: TapEndpoint, uplink: Uplink) -> EndpointGone:
        """Have this TAP as a port until it is gone; how it went."""
        self._peers[tap] = Peer(trio.current_time(), "tap", bridge=tap.bridge)
        try:
            while True:
                gone: list[EndpointGone] = []
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_look_after, tap, nursery.cancel_scope)
                        await self._switch.serve(tap, egress=uplink.filter, pinned=uplink.macs)
                except* EndpointGone as group:
                    gone = [exc for exc in group.exceptions if isinstance(exc, EndpointGone)]
                if gone:
                    return gone[0]
                uplink = await self._set_up_anew(tap, uplink)
        finally:
            del self._peers[tap]

    async def _set_up_anew(self, tap: TapEndpoint, uplink: Uplink) -> Uplink:
        """The bridge is another one, by its old name: give it what the old one had."""
        try:
            return await trio.to_thread.run_sync(partial(_set_up_uplink, self._settings, tap))
        except SetupError as exc:
            log.warning("%s", exc)
            return uplink

    async def _reopen_tap(self) -> tuple[TapEndpoint, Uplink]:
        said = ""
        while True:
            await trio.sleep(MAINTAIN_INTERVAL_S)
            try:
                return await self._open_tap()
            except SetupError as exc:
                if str(exc) != said:
                    said = str(exc)
                    log.warning("%s", exc)

    # --- what it tells of itself ------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The daemon as it stands, as JSON takes it."""
        now = trio.current_time()
        settings, switch = self._settings, self._switch
        return {
            "program": f"vknetd {__version__}",
            "pid": os.getpid(),
            "socket": self._listeners.path,
            "seconds": round(now - self._started, 3),
            "secure": settings.secure,
            "prefixes": [str(interface.network) for interface in settings.interfaces],
            "clients": self._clients,
            "clients_max": settings.clients,
            "clients_refused": self._refused,
            "ports": [
                port_status(port, self._peers[port.endpoint], switch.table.held_by(port), now)
                for port in switch.ports
            ],
            "table": table_status(switch.table, settings.age, LIMIT, now),
        }


async def _look_after(tap: TapEndpoint, serving: trio.CancelScope) -> None:
    """Keep the TAP in its bridge; end the serving when that has become another one."""
    before = tap.bridge_index
    while tap.bridge_index == before:
        await tap.maintain()
        await trio.sleep(MAINTAIN_INTERVAL_S)
    serving.cancel()


def _set_up_uplink(settings: VknetdSettings, tap: TapEndpoint) -> Uplink:
    """Give the host its addresses, and learn those it has: on the TAP, or else on its bridge.

    A port of a bridge takes no packets of its own, so the host's addresses are on the bridge then.
    """
    wanted = [interface for interface in settings.interfaces if not _is_prefix_alone(interface)]
    if wanted and tap.bridge is None and tap.bridge_index is not None:
        raise SetupError(
            f"{tap.name} is a port of a bridge, where an address on it does nothing: give -b with"
            f" the bridge's name, or take it out: ip link set {tap.name} nomaster"
        )
    interface, addresses = netlink.set_up_addresses(tap.index, [] if tap.bridge else wanted)
    macs = [interface.mac]
    if tap.bridge is not None:
        try:
            index = socket.if_nametoindex(tap.bridge)
        except OSError as exc:
            raise SetupError(f"the bridge {tap.bridge} has gone") from exc
        if interface.master != index:
            raise SetupError(f"{tap.name} is not in {tap.bridge}; another took its name or place")
        bridge, more = netlink.set_up_addresses(index, wanted)
        macs.append(bridge.mac)
        addresses += more
    if not settings.secure:
        return Uplink(None, ())
    # A bridge that lost its last port may have none.
    macs = [mac for mac in macs if mac not in (b"", NO_MAC) and not is_multicast(mac)]
    prefixes = [interface.network for interface in settings.interfaces]
    return Uplink(
        SourceFilter(prefixes, tap_mac=interface.mac, tap_addresses=addresses), tuple(macs)
    )


def _is_prefix_alone(interface: IPv4Interface | IPv6Interface) -> bool:
    """Whether it is written as a network, 198.18.5.0/24, which no host has for an address."""
    network = interface.network
    return interface.ip == network.network_address and network.prefixlen < network.max_prefixlen - 1


def _peer(sock: socket.socket) -> Peer:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, gid = CREDENTIALS.unpack(raw)
    command = None
    if pid:
        try:
            command = escaped(Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n"), 32)
        except OSError:
            command = None
    return Peer(trio.current_time(), "client", pid=pid or None, uid=uid, gid=gid, command=command)


def _allow_descriptors(wanted: int) -> None:
    """Raise the soft limit of descriptors, if it is too low and may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
