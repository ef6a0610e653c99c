"""vknetd: one nursery with a listening socket, its clients, a TAP, and a control socket.

    clients -> _take_client -> Switch.serve, one port each, until they disconnect
    TAP     -> _serve_tap -> Switch.serve, behind the source filter; opened again if it is deleted
    control -> the status
    sockets -> _keep_reachable; created again if they are removed

A client that disconnects or misbehaves never ends the daemon, and neither does an unexpected error
in one of these tasks.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio

from vknet._version import __version__
from vknet.endpoints import netlink
from vknet.endpoints.seqpacket import SeqpacketEndpoint
from vknet.endpoints.tap import TapEndpoint, open_tap
from vknet.endpoints.threads import run_in_thread
from vknet.errors import EndpointGone, SetupError
from vknet.packet.ethernet import NO_MAC, is_multicast
from vknet.switch.filter import SourceFilter
from vknet.switch.switch import Switch
from vknet.switch.table import ENTRIES_MAX
from vknet.vknetd import control
from vknet.vknetd.accepting import accept_all
from vknet.vknetd.containment import contained
from vknet.vknetd.peer import Credentials, credentials_of, exempt_users, peer_of
from vknet.vknetd.places import Places
from vknet.vknetd.status import PORTS_SHOWN_MAX, Peer, port_status, table_status

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Interface, IPv6Interface

    from vknet.endpoints.base import Endpoint
    from vknet.vknetd.settings import VknetdSettings
    from vknet.vknetd.sockets import Listener, Listeners

__all__ = ["Daemon"]

log = logging.getLogger(__name__)

# The time between two calls of `TapEndpoint.maintain`, between attempts to open a deleted TAP
# again, and between two looks at the paths of the sockets.
MAINTAIN_INTERVAL_S: Final = 1.0

# After a failed attempt to create a socket again, the next one comes this many times later.
RENEW_BACKOFF: Final = 5

# Descriptors in addition to those of clients: the standard ones, listeners, trio, TAP, netlink.
OWN_DESCRIPTORS: Final = 64


@dataclass(frozen=True, slots=True)
class Uplink:
    """The rules of the uplink.

    Attributes:
        filter: which frames may leave; None in plain mode.
        macs: the MAC addresses that no client may use; none in plain mode.
    """

    filter: SourceFilter | None
    macs: tuple[bytes, ...]


class Daemon:
    """A switch with a socket for local programs, and an uplink.

    Args:
        settings: which switch to run.
        listeners: its two sockets.  The caller closes them and removes their paths.

    Attributes:
        uplink: the name of the TAP; None without one, and before it is open.
    """

    def __init__(self, settings: VknetdSettings, listeners: Listeners) -> None:
        self._settings = settings
        self._listeners = listeners
        self._switch = Switch(age=settings.age)
        self._peers: dict[Endpoint, Peer] = {}
        self._places = Places(settings.clients, exempt_users())
        self._refused = 0
        self._numbers = count(1)
        self._started = trio.current_time()
        self.uplink: str | None = None

    async def run(self, ready: Callable[[str], None]) -> NoReturn:
        """Serve until cancelled.

        Args:
            ready: called when clients are accepted and the uplink works, with a summary of one
                line.

        Raises:
            SetupError: the TAP cannot be opened or configured.
        """
        _raise_descriptor_limit(self._settings.clients + OWN_DESCRIPTORS)
        tap = None if self._settings.tap is None else await self._open_tap()
        async with trio.open_nursery() as nursery:
            take = partial(self._take_client, nursery)
            nursery.start_soon(accept_all, self._listeners.frames, "a client", take)
            nursery.start_soon(control.serve, self._listeners.control, self.status)
            for listener in (self._listeners.frames, self._listeners.control):
                nursery.start_soon(_keep_reachable, listener)
            if tap is None:
                uplink_text = "no uplink"
            else:
                nursery.start_soon(self._keep_tap, *tap)
                self.uplink = tap[0].name
                uplink_text = f"uplink {tap[0].name}"
                uplink_text += f", in {tap[0].bridge}" if tap[0].bridge else ""
            # A signal may have come meanwhile.
            await trio.lowlevel.checkpoint_if_cancelled()
            ready(f"listening on {self._listeners.path}, {uplink_text}")
        raise AssertionError("the nursery ends only when it is cancelled")

    # --- clients ----------------------------------------------------------------------------------

    def _take_client(self, nursery: trio.Nursery, sock: socket.socket) -> None:
        credentials = credentials_of(sock)
        if self._places.take(credentials.uid):
            nursery.start_soon(self._serve_client, sock, credentials)
            return
        sock.close()
        self._refused += 1
        # At powers of two only, so that a flood of clients does not flood the log.
        if self._refused & (self._refused - 1) == 0:
            self._log_refused(credentials.uid)

    def _log_refused(self, uid: int) -> None:
        places = self._places
        if places.free:
            why = f"user {uid} has {places.held_by(uid)}, and only {places.free} more are free"
        else:
            why = f"{places.taken} are connected already"
        log.warning("a client was refused: %s (--clients); %d refused so far", why, self._refused)

    async def _serve_client(self, sock: socket.socket, credentials: Credentials) -> None:
        name = f"client{next(self._numbers)}"
        try:
            with contained(f"{name} (uid {credentials.uid}) was disconnected"):
                async with SeqpacketEndpoint(sock, name) as endpoint:
                    await self._serve_endpoint(endpoint, peer_of(credentials))
        finally:
            # Also if the endpoint could not be created.
            sock.close()
            self._places.give_back(credentials.uid)

    async def _serve_endpoint(self, endpoint: SeqpacketEndpoint, peer: Peer) -> None:
        name = endpoint.name
        self._peers[endpoint] = peer
        log.debug("%s connected: %s, pid %s, uid %s", name, peer.command, peer.pid, peer.uid)
        try:
            await self._switch.serve(endpoint)
        except EndpointGone:
            log.debug("%s disconnected", name)
        finally:
            del self._peers[endpoint]

    # --- uplink -----------------------------------------------------------------------------------

    async def _open_tap(self) -> tuple[TapEndpoint, Uplink]:
        settings = self._settings
        if settings.tap is None:
            raise AssertionError("an isolated switch opens no TAP")
        tap = await open_tap(settings.tap.name, bridge=settings.bridge, mtu=settings.mtu)
        try:
            return tap, await run_in_thread(partial(_set_up_uplink, settings, tap))
        except BaseException:
            with trio.CancelScope(shield=True):
                await tap.aclose()
            raise

    async def _keep_tap(self, tap: TapEndpoint, uplink: Uplink) -> None:
        """Keep the TAP as a port until cancelled; open it again whenever it is deleted."""
        while True:
            cause: EndpointGone | None = None
            async with tap:
                with contained(f"the uplink {tap.name} was closed"):
                    cause = await self._serve_tap(tap, uplink)
            log.warning(
                "%s; creating it again",
                f"{tap.name} is no longer a port" if cause is None else cause,
            )
            tap, uplink = await self._reopen_tap()
            log.warning("%s is back", tap.name)

    async def _serve_tap(self, tap: TapEndpoint, uplink: Uplink) -> EndpointGone:
        """Keep this TAP as a port until it is deleted; return the error that said so."""
        self._peers[tap] = Peer(trio.current_time(), "tap", bridge=tap.bridge)
        try:
            while True:
                gone: list[EndpointGone] = []
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_maintain, tap, nursery.cancel_scope)
                        await self._switch.serve(tap, egress=uplink.filter, pinned=uplink.macs)
                except* EndpointGone as group:
                    gone = [exc for exc in group.exceptions if isinstance(exc, EndpointGone)]
                if gone:
                    return gone[0]
                uplink = await self._set_up_again(tap, uplink)
        finally:
            del self._peers[tap]

    async def _set_up_again(self, tap: TapEndpoint, uplink: Uplink) -> Uplink:
        """Configure a bridge that was deleted and created again; return the new rules.

        If that fails, it logs the cause and returns the old rules.
        """
        try:
            return await run_in_thread(partial(_set_up_uplink, self._settings, tap))
        except SetupError as exc:
            log.warning("%s", exc)
            return uplink

    async def _reopen_tap(self) -> tuple[TapEndpoint, Uplink]:
        logged = ""
        while True:
            await trio.sleep(MAINTAIN_INTERVAL_S)
            try:
                with contained("the uplink could not be created"):
                    return await self._open_tap()
            except SetupError as exc:
                if str(exc) != logged:
                    logged = str(exc)
                    log.warning("%s", exc)

    # --- status -----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return the status in types that JSON has; docs/vknetd.8 documents the keys."""
        now = trio.current_time()
        settings, switch = self._settings, self._switch
        return {
            "program": f"vknetd {__version__}",
            "pid": os.getpid(),
            "socket": self._listeners.path,
            "seconds": round(now - self._started, 3),
            "secure": settings.secure,
            "prefixes": [str(interface.network) for interface in settings.interfaces],
            "clients": self._places.taken,
            "clients_max": settings.clients,
            "clients_refused": self._refused,
            "ports": [
                port_status(port, self._peers[port.endpoint], switch.table.held_by(port), now)
                for port in switch.ports[:PORTS_SHOWN_MAX]
            ],
            "table": table_status(switch.table, settings.age, ENTRIES_MAX, now),
        }


async def _keep_reachable(listener: Listener) -> None:
    """Create a socket again whose path was removed, until cancelled."""
    logged = ""
    while True:
        # An attempt may connect to the program that has the path.
        await trio.sleep(MAINTAIN_INTERVAL_S * (RENEW_BACKOFF if logged else 1))
        if listener.is_reachable:
            logged = ""
            continue
        lost = f"{listener.path} was removed or replaced, so no client can find this vknetd"
        error = ""
        with contained(lost):
            try:
                old = await trio.to_thread.run_sync(listener.renew)
            except SetupError as exc:
                error = f"{lost}: {exc}"
            else:
                trio.lowlevel.notify_closing(old)
                old.close()
                log.warning("%s was removed or replaced; created it again", listener.path)
        if error and error != logged:
            log.warning("%s", error)
        logged = error


async def _maintain(tap: TapEndpoint, serving: trio.CancelScope) -> None:
    """Keep the TAP in its bridge; cancel `serving` when another bridge has taken that name."""
    before = tap.bridge_index
    while tap.bridge_index == before:
        await tap.maintain()
        await trio.sleep(MAINTAIN_INTERVAL_S)
    serving.cancel()


def _set_up_uplink(settings: VknetdSettings, tap: TapEndpoint) -> Uplink:
    """Set the addresses on the TAP, or on its bridge, and look up all that the host has there.

    It blocks.  The host receives no packets through a port of a bridge, only through the bridge
    itself, so with a bridge the addresses are on the bridge.

    Raises:
        SetupError: the addresses cannot be set, or the TAP is not in its bridge.
    """
    wanted = [interface for interface in settings.interfaces if not _is_prefix_only(interface)]
    if wanted and tap.bridge is None and tap.bridge_index is not None:
        raise SetupError(
            f"{tap.name} is a port of a bridge, so an address on it has no effect; name the bridge"
            f" with -b, or take {tap.name} out of it: ip link set {tap.name} nomaster"
        )
    interface, addresses = netlink.set_up_addresses(tap.index, [] if tap.bridge else wanted)
    macs = [interface.mac]
    if tap.bridge is not None:
        try:
            index = socket.if_nametoindex(tap.bridge)
        except OSError as exc:
            raise SetupError(f"the bridge {tap.bridge} was deleted") from exc
        if interface.master != index:
            raise SetupError(
                f"{tap.name} is not in {tap.bridge}: another interface has that name, or"
                f" {tap.name} was moved"
            )
        bridge, more = netlink.set_up_addresses(index, wanted)
        macs.append(bridge.mac)
        addresses += more
    if not settings.secure:
        return Uplink(None, ())
    # A bridge that has lost its last port may have no MAC address.
    macs = [mac for mac in macs if mac not in (b"", NO_MAC) and not is_multicast(mac)]
    prefixes = [interface.network for interface in settings.interfaces]
    return Uplink(
        SourceFilter(prefixes, tap_mac=interface.mac, tap_addresses=addresses), tuple(macs)
    )


def _is_prefix_only(interface: IPv4Interface | IPv6Interface) -> bool:
    """Whether it is the address of a network (198.18.5.0/24), and not that of a host."""
    network = interface.network
    return interface.ip == network.network_address and network.prefixlen < network.max_prefixlen - 1


def _raise_descriptor_limit(wanted: int) -> None:
    """Raise the soft limit of open descriptors to `wanted`, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
