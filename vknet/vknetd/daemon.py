"""vknetd: one nursery with a listening socket, its clients, a TAP, and a control socket.

    clients -> _take_client -> Switch.serve, one port each, until they disconnect
    TAP     -> _serve_tap -> Switch.serve as the uplink; opened again if it is deleted
    control -> the status
    sockets -> _keep_reachable; created again if they are removed

A client that disconnects or misbehaves never ends the daemon, and neither does an unexpected error
in one of these tasks.
"""

from __future__ import annotations

import logging
import os
import resource
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio

from vknet._version import __version__
from vknet.endpoints.seqpacket import SeqpacketEndpoint
from vknet.endpoints.tap import TapEndpoint, open_tap
from vknet.endpoints.threads import run_in_thread
from vknet.errors import EndpointGone, SetupError
from vknet.link.backoff import Backoff, Failure
from vknet.packet.ethernet import format_mac
from vknet.switch.protocols import DEFAULT_PROTOCOLS
from vknet.switch.switch import Switch
from vknet.switch.table import ENTRIES_MAX
from vknet.vknetd import control
from vknet.vknetd.accepting import accept_all
from vknet.vknetd.containment import contained
from vknet.vknetd.peer import Credentials, credentials_of, exempt_users, peer_of
from vknet.vknetd.places import Places
from vknet.vknetd.settings import station_text
from vknet.vknetd.status import (
    PORTS_SHOWN_MAX,
    Peer,
    outside_status,
    port_status,
    table_status,
)
from vknet.vknetd.uplink import HostAddresses, UplinkAddresses, look_up, make_guard, set_up

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from vknet.endpoints.base import Endpoint
    from vknet.vknetd.settings import VknetdSettings
    from vknet.vknetd.sockets import Listener, Listeners

__all__ = ["Daemon"]

log = logging.getLogger(__name__)

# The time between two calls of `TapEndpoint.maintain`, between two looks at the paths of the
# sockets, and before the first attempt to open a deleted TAP again; further attempts come later.
MAINTAIN_INTERVAL_S: Final = 1.0

# An uplink that lasts this long ends the series of failed attempts.
UPLINK_STABLE_S: Final = 30.0

# After a failed attempt to create a socket again, the next one comes this many times later.
RENEW_BACKOFF: Final = 5

# Descriptors in addition to those of clients: the standard ones, listeners, trio, TAP, netlink.
OWN_DESCRIPTORS: Final = 64


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
        self._guard = make_guard(settings)
        self._switch = Switch(age=settings.age, guard=self._guard)
        self._host: HostAddresses | None = None
        self._peers: dict[Endpoint, Peer] = {}
        self._places = Places(settings.clients, exempt_users())
        self._tap: TapEndpoint | None = None
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
                nursery.start_soon(self._keep_tap, tap)
                nursery.start_soon(self._keep_time)
                self.uplink = tap.name
                uplink_text = f"uplink {tap.name}"
                uplink_text += f", in {tap.bridge}" if tap.bridge else ""
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
        if self._tap is not None:
            self._tap.on_new_stations()
        log.debug("%s connected: %s, pid %s, uid %s", name, peer.command, peer.pid, peer.uid)
        try:
            await self._switch.serve(endpoint)
        except EndpointGone:
            log.debug("%s disconnected", name)
        finally:
            del self._peers[endpoint]

    # --- uplink -----------------------------------------------------------------------------------

    async def _open_tap(self) -> TapEndpoint:
        settings = self._settings
        if settings.tap is None:
            raise AssertionError("an isolated switch opens no TAP")
        tap = await open_tap(settings.tap.name, bridge=settings.bridge, mtu=settings.mtu)
        try:
            self._reserve(await run_in_thread(partial(set_up, settings, tap)))
        except BaseException:
            with trio.CancelScope(shield=True):
                await tap.aclose()
            raise
        return tap

    async def _keep_tap(self, tap: TapEndpoint) -> None:
        """Keep the TAP as a port until cancelled; open it again whenever it is deleted."""
        backoff = Backoff(MAINTAIN_INTERVAL_S)
        while True:
            cause: EndpointGone | None = None
            opened = trio.current_time()
            async with tap:
                with contained(f"the uplink {tap.name} was closed"):
                    cause = await self._serve_tap(tap)
            if trio.current_time() > opened + UPLINK_STABLE_S:
                backoff.reset()
            log.warning(
                "%s; creating it again",
                f"{tap.name} is no longer a port" if cause is None else cause,
            )
            tap = await self._reopen_tap(backoff)
            log.warning("%s is back", tap.name)

    async def _serve_tap(self, tap: TapEndpoint) -> EndpointGone | None:
        """Keep this TAP as a port until it is deleted; return the error that said so."""
        self._tap = tap
        self._peers[tap] = Peer(trio.current_time(), "tap")
        gone: list[EndpointGone] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._maintain, tap)
                await self._switch.serve(tap, is_uplink=True)
                nursery.cancel_scope.cancel()
        except* EndpointGone as group:
            gone = [exc for exc in group.exceptions if isinstance(exc, EndpointGone)]
        finally:
            self._tap = None
            del self._peers[tap]
        return gone[0] if gone else None

    async def _maintain(self, tap: TapEndpoint) -> None:
        """Keep the TAP in its bridge, and know the addresses that the host has there now."""
        addresses = UplinkAddresses(self._settings, tap)
        while True:
            await tap.maintain()
            await addresses.maintain()
            if self._guard is not None:
                with suppress(OSError):
                    # In a thread: the kernel takes the RTNL lock, which others may hold.
                    host = await trio.to_thread.run_sync(look_up, tap, abandon_on_cancel=True)
                    self._reserve(host)
            await trio.sleep(MAINTAIN_INTERVAL_S)

    def _reserve(self, host: HostAddresses) -> None:
        """Keep the addresses of the host from clients; MAC addresses that it had before as well."""
        before, self._host = self._host, host
        if self._guard is None or host == before:
            return
        self._switch.reserve(host.macs)
        self._guard.filter.set_host(host.tap_mac, host.addresses)
        if before is not None:
            for mac in before.macs - host.macs:
                log.info("%s is no longer a MAC address of the uplink", format_mac(mac))
                self._guard.see_source(mac, trio.current_time(), is_clients=False)

    async def _keep_time(self) -> None:
        """Let the guard forget what was not seen for long."""
        while self._guard is not None:
            await trio.sleep(MAINTAIN_INTERVAL_S)
            self._guard.expire(trio.current_time())

    async def _reopen_tap(self, backoff: Backoff) -> TapEndpoint:
        logged = ""
        while True:
            # An attempt starts a child process, and may create and delete a TAP.
            await trio.sleep(backoff.next_delay(Failure.LOCAL))
            with contained("the uplink could not be created"):
                try:
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
            "gateways": [station_text(station) for station in settings.gateways],
            "roaming": [station_text(station) for station in settings.roaming],
            "protocols": sorted(DEFAULT_PROTOCOLS | settings.protocols),
            "clients": self._places.taken,
            "clients_max": settings.clients,
            "clients_refused": self._refused,
            "ports": [
                port_status(
                    port,
                    self._peers[port.endpoint],
                    switch.table.held_by(port),
                    now,
                    bridge=port.endpoint.bridge if isinstance(port.endpoint, TapEndpoint) else None,
                )
                for port in switch.ports[:PORTS_SHOWN_MAX]
            ],
            "table": table_status(switch.table, settings.age, ENTRIES_MAX, now),
            "outside": None if self._guard is None else outside_status(self._guard),
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


def _raise_descriptor_limit(wanted: int) -> None:
    """Raise the soft limit of open descriptors to `wanted`, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
