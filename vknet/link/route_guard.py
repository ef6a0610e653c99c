"""A link that carries its own ssh connection: a route to the peer that leads through the TAP.

It happens when the far network gives this host a default route, for example by DHCP.  The packets
of ssh then enter the TAP, come to ssh again, and never leave the host.  The link falls silent, and
no attempt can succeed, because the route stays.

When ssh has logged in, the guard remembers the route that the connection takes.  It asks the kernel
for the route again when the network changes and when the link is lost.  If the route leads through
the link, the guard says so, and adds a host route by the remembered way.  It changes no other
route, and deletes its own at the end.  After some failed attempts it deletes it and looks again,
because the network may be another one by then.  If the route still leads through the link, no
attempt can succeed without the host route, so the guard adds it again, without a message.
"""

from __future__ import annotations

import logging
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from vknet.endpoints.routes import (
    OtherRouteError,
    Route,
    RouteRefusedError,
    add_host_route,
    delete_host_route,
    route_to,
)
from vknet.endpoints.threads import run_in_thread
from vknet.errors import SetupError
from vknet.link.host_changes import HostChanges
from vknet.monitor import Lost, Up

if TYPE_CHECKING:
    from vknet.monitor import Monitor
    from vknet.transport.peer_address import PeerAddress

__all__ = ["RouteGuard"]

log = logging.getLogger(__name__)

# The time for the removal of a host route at the end.
DELETE_S: Final = 5.0

# The number of failed attempts after which a host route is tested; then after twice as many each
# time.  Each test changes the routes twice.
FAILURES_BEFORE_TEST: Final = 4

# The time that routes get to settle after a change.
SETTLE_S: Final = 0.3

# The discard port (RFC 863).  Nothing is sent.
ANY_PORT: Final = 9


class RouteGuard:
    """Notices a route to the peer through the link; see the module.

    Args:
        monitor: has the state of the link.
        peer: the IP address of the ssh server.
    """

    def __init__(self, monitor: Monitor, peer: PeerAddress) -> None:
        self._monitor = monitor
        self._peer = peer
        self._tap = ""
        self._known: Route | None = None
        self._source: str | None = None
        self._failures = 0
        self._test_at = FAILURES_BEFORE_TEST
        self._lock = trio.Lock()
        self._added: Route | None = None
        self._reported: Route | None = None
        self._addition_reported = False

    async def run(self) -> None:
        """Watch the link and the routes until cancelled; then delete the host route."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_logins)
                nursery.start_soon(self._watch_link)
                nursery.start_soon(self._watch_routes)
        finally:
            with trio.move_on_after(DELETE_S, shield=True):
                await self._delete_added()
            if self._added is not None:
                log.warning(
                    "the host route to %s may still be there; as root: %s",
                    self._added.address,
                    self._added.deletion_command,
                )

    async def _watch_link(self) -> None:
        async for state in self._monitor.changes():
            async with self._lock:
                if isinstance(state, Up):
                    self._tap = state.endpoint
                    self._reported = None
                    self._failures = 0
                    self._test_at = FAILURES_BEFORE_TEST
                elif isinstance(state, Lost) and state is self._monitor.state:
                    self._failures += 1
                    if self._failures >= self._test_at:
                        self._test_at *= 2
                        await self._delete_added()
                    await self._look()

    async def _watch_routes(self) -> None:
        """Look at the route while the link is up: the link can be saved before it is silent."""
        with HostChanges(taps=True) as changes:
            while True:
                await changes.wait()
                await trio.sleep(SETTLE_S)
                changes.clear()
                async with self._lock:
                    # The look needs a process, and this does not.
                    source = self._source_address()
                    if (
                        isinstance(self._monitor.state, Up)
                        and source != self._source
                        and await self._look()
                    ):
                        # Such as a new IPv6 privacy address.
                        self._source = source

    async def _watch_logins(self) -> None:
        """Remember the route of each connection, before its link is up."""
        while True:
            await self._peer.next_login()
            async with self._lock:
                self._source = self._source_address()
                route = await self._route()
                if route is not None and route.interface != self._tap:
                    self._known = route
                    log.debug("the connection takes this route: %s", route.command)

    async def _look(self) -> bool:
        """Report a route through the link, and add a host route by the known way.

        Returns:
            Whether the route is known and does not lead through the link.
        """
        route = await self._route()
        if route is None:
            return False
        if not self._is_through_link(route):
            return True
        known = self._known
        if known is not None and (known.interface == self._tap or not known.is_plain):
            known = None
        if self._reported != route:
            self._reported = route
            self._addition_reported = False
            cure = f"ip route add {route.address} via ROUTER" if known is None else known.command
            log.warning(
                "the route to %s leads through %s itself, so ssh cannot reach it; as root: %s",
                route.address,
                route.interface,
                cure,
            )
        if known is not None:
            await self._add(known)
        return False

    async def _add(self, route: Route) -> None:
        if self._added != route:
            await self._delete_added()
            if self._added is not None:
                return
        # The addition may take effect although it is cancelled or fails.
        self._added = route
        try:
            await run_in_thread(partial(add_host_route, route))
        except RouteRefusedError as exc:
            self._added = None
            log.debug("cannot add a host route to %s: %s", route.address, exc)
            if isinstance(exc, OtherRouteError) and not self._addition_reported:
                self._addition_reported = True
                log.warning(
                    "another host route is in the way; as root: %s", route.replacement_command
                )
        except SetupError as exc:
            log.debug("cannot add a host route to %s: %s", route.address, exc)
        else:
            if not self._addition_reported:
                self._addition_reported = True
                log.warning("vknet has added this route; it deletes it at the end")

    def _is_through_link(self, route: Route) -> bool:
        """Whether a route leads into the TAP, or newly into its bridge.

        A bridge may well hold the network card through which the peer is reached.  Then the route
        was the same while the link was up.
        """
        if route.interface == self._tap:
            return True
        known = self._known
        if known is not None and known.is_same_way(route):
            return False
        return route.index == self._bridge()

    def _bridge(self) -> int | None:
        """Return the index of the bridge that the TAP is in."""
        try:
            return int(Path(f"/sys/class/net/{self._tap}/master/ifindex").read_text())
        except (OSError, ValueError):
            return None

    async def _route(self) -> Route | None:
        address = self._peer.address
        if address is None:
            return None
        try:
            return await run_in_thread(partial(route_to, address))
        except SetupError as exc:
            log.debug("the route to %s is not known: %s", address, exc)
            return None

    def _source_address(self) -> str | None:
        """Return the address of this host that the kernel would use towards the peer."""
        address = self._peer.address
        if address is None:
            return None
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((address, ANY_PORT))
                return str(sock.getsockname()[0])
        except OSError:
            return None

    async def _delete_added(self) -> None:
        route = self._added
        if route is not None:
            try:
                await run_in_thread(partial(delete_host_route, route))
            except SetupError as exc:
                log.debug("cannot delete the host route to %s: %s", route.address, exc)
            else:
                self._added = None
