"""The kernel's route to one address, and host routes, over rtnetlink(7).

Each public function runs in a child process, like those of `vknet.endpoints.netlink`.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Any, Final

from vknet.endpoints.isolated import isolated
from vknet.endpoints.netlink import open_netlink
from vknet.errors import SetupError

__all__ = [
    "OtherRouteError",
    "Route",
    "RouteRefusedError",
    "add_host_route",
    "delete_host_route",
    "route_to",
]

IPV4_BITS: Final = 32
IPV6_BITS: Final = 128

# The origin of these host routes (rtm_protocol in rtnetlink(7)); ip(8) shows "proto 118".  Only a
# route of this origin is deleted.  Routing daemons have other numbers.
ROUTE_PROTOCOL: Final = 118


class RouteRefusedError(SetupError):
    """The kernel refuses a host route, so no route was added."""


class OtherRouteError(RouteRefusedError):
    """There is a host route to the same address, by another way."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way of packets to one address.

    Attributes:
        address: the address.
        index: the interface through which they leave.
        interface: its name.
        master: the index of its bridge; None if it is not a port.
        gateway: the next hop; None if the address is on the interface's own network.
        is_plain: whether the next hop has the address family of the address.  Only such a route
            can be made a host route.
    """

    address: str
    index: int
    interface: str
    master: int | None
    gateway: str | None
    is_plain: bool = True

    @property
    def command(self) -> str:
        """The command that makes it a host route."""
        via = "" if self.gateway is None else f" via {self.gateway}"
        return f"ip route add {self.address}{via} dev {self.interface}"

    def is_same_way(self, other: Route) -> bool:
        """Whether another route has the same interface and the same next hop."""
        return (self.index, self.gateway) == (other.index, other.gateway)

    @property
    def replacement_command(self) -> str:
        """The command that makes it a host route in place of another one."""
        return self.command.replace(" add ", " replace ", 1)

    @property
    def deletion_command(self) -> str:
        """The command that deletes this host route."""
        return f"ip route del {self.address} dev {self.interface}"


@isolated
def route_to(address: str) -> Route | None:
    """Return the current route to an address; None if there is none.

    Raises:
        SetupError: netlink failed.
    """
    with open_netlink() as ipr:
        return _current(ipr, address)


def _current(ipr: Any, address: str) -> Route | None:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        answer = next(iter(ipr.route("get", **_destination(address))))
    except NetlinkError as exc:
        if exc.code in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
            return None
        raise
    index = answer.get_attr("RTA_OIF")
    if index is None:
        return None
    link = next(iter(ipr.get_links(index)))
    name, master = link.get_attr("IFLA_IFNAME"), link.get_attr("IFLA_MASTER")
    # Such as an IPv6 router of an IPv4 route.
    via = answer.get_attr("RTA_VIA")
    gateway = answer.get_attr("RTA_GATEWAY") if via is None else str(via["addr"])
    return Route(address, index, name, master, gateway, is_plain=via is None)


@isolated
def add_host_route(route: Route) -> None:
    """Add a host route; the same one that is there already stays.

    Raises:
        OtherRouteError: another host route is in the way.
        RouteRefusedError: the kernel refuses it, or this user may not add routes.
        SetupError: netlink failed; the route may have been added.
    """
    from pyroute2.netlink.exceptions import NetlinkError

    with open_netlink() as ipr:
        try:
            ipr.route("add", **_host_route(route))
        except NetlinkError as exc:
            if exc.code != errno.EEXIST:
                raise RouteRefusedError(_text(exc)) from exc
            # Linux compares the address and the metric, not the way.
            current = _current(ipr, route.address)
            if current is None or not current.is_same_way(route):
                raise OtherRouteError("there is another host route") from exc


@isolated
def delete_host_route(route: Route) -> None:
    """Delete a host route that `add_host_route` added, if it is there.

    Raises:
        SetupError: it may still be there.
    """
    from pyroute2.netlink.exceptions import NetlinkError

    with open_netlink() as ipr:
        try:
            ipr.route("del", **_host_route(route))
        except NetlinkError as exc:
            # The kernel deletes the routes of an interface with the interface.
            if exc.code not in (errno.ESRCH, errno.ENODEV):
                raise SetupError(_text(exc)) from exc


def _text(exc: Exception) -> str:
    return f"{exc.args[1] if len(exc.args) > 1 else exc}"


def _destination(address: str) -> dict[str, Any]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return {"dst": address, "family": family}


def _host_route(route: Route) -> dict[str, Any]:
    bits = IPV6_BITS if ":" in route.address else IPV4_BITS
    gateway = {} if route.gateway is None else {"gateway": route.gateway}
    way = {"dst_len": bits, "oif": route.index, "proto": ROUTE_PROTOCOL} | gateway
    return _destination(route.address) | way
