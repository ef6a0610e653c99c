"""Interfaces, bridges and addresses over rtnetlink(7), through pyroute2.

This is the only module that imports pyroute2.  Each public function runs in a child process
(`vknet.endpoints.isolated`), so pyroute2 is imported there.  It opens a netlink socket, makes one
change or query, and closes the socket.  It blocks, so call it in a worker thread.

Settings that are already right are left alone.  So a user without CAP_NET_ADMIN can use interfaces
that an administrator prepared.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vknet.endpoints.interface import Interface, find_index, ip_addresses, read_interface
from vknet.endpoints.isolated import isolated
from vknet.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from ipaddress import IPv4Interface, IPv6Interface

__all__ = [
    "OwnedTap",
    "change",
    "explained",
    "find_interface",
    "get_interface",
    "open_netlink",
    "owned_taps",
    "set_mtu",
    "set_up_addresses",
    "used_queues",
]

# The shortest prefix without a broadcast address (RFC 3021).
IPV4_POINT_TO_POINT_PREFIX: Final = 31


@dataclass(frozen=True, slots=True)
class OwnedTap:
    """A persistent TAP that was created for this user.

    Attributes:
        name: its name.
        bridge: the name of its bridge; None if it is not a port.
        in_use: a program uses it.  Only a TAP with several queues tells it.
    """

    name: str
    bridge: str | None
    in_use: bool = False


@isolated
def set_mtu(index: int, mtu: int) -> None:
    """Set an interface's MTU, in bytes.

    Raises:
        SetupError: the interface is gone, the change is not permitted, or the MTU is out of range.
    """
    with open_netlink() as ipr:
        interface = get_interface(index)
        change(ipr, interface, f"ip link set {interface.name} mtu {mtu}", mtu=mtu)


@isolated
def set_up_addresses(
    index: int, wanted: Iterable[IPv4Interface | IPv6Interface]
) -> tuple[Interface, dict[str, str]]:
    """Add addresses to an interface; those that it has stay.

    Args:
        index: of the interface.
        wanted: the addresses with their prefixes.

    Returns:
        The state of the interface; and, for each wanted address that another interface has, the
        name of that interface.

    Raises:
        SetupError: the interface is gone, or the change is not permitted.
    """
    with open_netlink() as ipr:
        interface = get_interface(index)
        wanted = list(wanted)
        elsewhere: dict[str, str] = {}
        if wanted:
            present = ip_addresses({index})
            for address in wanted:
                if address.ip not in present:
                    with explained(f"ip addr add {address} dev {interface.name}"):
                        ipr.addr(
                            "replace",
                            index=index,
                            address=str(address.ip),
                            prefixlen=address.network.prefixlen,
                            **_broadcast(address),
                        )
            names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in ipr.get_links()}
            names.pop(index, None)
            taken = ip_addresses(names)
            if any(address.ip in taken for address in wanted):
                for other, name in names.items():
                    theirs = ip_addresses({other})
                    elsewhere |= {str(a.ip): name for a in wanted if a.ip in theirs}
        return interface, elsewhere


@isolated
def owned_taps() -> list[OwnedTap]:
    """Return the persistent TAPs ``tapN`` whose owner is this user or one of its groups, by number.

    A TAP without an owner is left out: any process may open it, so it may be meant for another
    program.

    Raises:
        SetupError: netlink failed.
    """
    user, groups = os.geteuid(), {os.getegid(), *os.getgroups()}
    with open_netlink() as ipr:
        links = list(ipr.get_links())
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
    taps: list[tuple[int, OwnedTap]] = []
    for link in links:
        name = link.get_attr("IFLA_IFNAME")
        if not name.startswith("tap") or not name[3:].isdecimal():
            continue
        data = ("linkinfo", "data")
        owner, group = link.get((*data, "tun_owner")), link.get((*data, "tun_group"))
        if link.get(("linkinfo", "kind")) == "tun" and (owner == user or group in groups):
            bridge = names.get(link.get_attr("IFLA_MASTER"))
            taps.append((int(name[3:]), OwnedTap(name, bridge, bool(_queues(link)))))
    return [tap for _, tap in sorted(taps, key=lambda numbered: numbered[0])]


@isolated
def used_queues(name: str) -> int | None:
    """Return the number of queues that programs use of a TAP; None if it is not multi_queue.

    Raises:
        SetupError: netlink failed.
    """
    index = find_index(name)
    if index is None:
        return None
    with open_netlink() as ipr:
        link = next(iter(ipr.get_links(index)), None)
        return None if link is None else _queues(link)


def _queues(link: Any) -> int | None:
    data = ("linkinfo", "data")
    if not link.get((*data, "tun_multi_queue")):
        return None
    counts = (link.get((*data, f"tun_num_{which}queues")) for which in ("", "disabled_"))
    return sum(count or 0 for count in counts)


def _broadcast(address: IPv4Interface | IPv6Interface) -> dict[str, str]:
    """Return the broadcast address that ``ip addr add ... brd +`` sets, as an argument."""
    if address.version == 6 or address.network.prefixlen >= IPV4_POINT_TO_POINT_PREFIX:
        return {}
    return {"broadcast": str(address.network.broadcast_address)}


def find_interface(name: str) -> Interface | None:
    """Return the interface with this name or alternative name; None if there is none."""
    index = find_index(name)
    return None if index is None else read_interface(index)


def get_interface(index: int) -> Interface:
    """Return the interface with this index, which a change of its name does not affect.

    Raises:
        SetupError: it was deleted.
    """
    found = read_interface(index)
    if found is None:
        raise SetupError(f"the interface was deleted (ip link show | grep '^{index}:')")
    return found


def change(ipr: Any, interface: Interface, command: str, **changes: Any) -> None:
    """Change an interface; an error shows `command`, which makes the same change by hand."""
    with explained(command):
        ipr.link("set", index=interface.index, **changes)


@contextmanager
def open_netlink() -> Iterator[Any]:
    """Open a netlink socket, and raise what fails as SetupError."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as ipr:
            yield ipr
    except (OSError, NetlinkError) as exc:
        raise SetupError(f"cannot read the interfaces over netlink: {exc}") from exc


@contextmanager
def explained(command: str) -> Iterator[None]:
    """Raise a refusal by the kernel as SetupError.  NetlinkError is not an OSError."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as exc:
        if exc.code == errno.ENODEV:
            message = f"the interface was deleted ({command})"
        elif exc.code in (errno.EPERM, errno.EACCES):
            message = f"no permission to change interfaces; as root: {command}"
        elif exc.code == errno.EOPNOTSUPP:
            message = f"the kernel does not support this ({command}); is a module missing?"
        else:
            message = f"the kernel refused ({command}): {os.strerror(exc.code)}"
        raise SetupError(message) from exc
