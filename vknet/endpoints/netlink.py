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

from vknet.endpoints.isolated import isolated
from vknet.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

__all__ = [
    "Interface",
    "OwnedTap",
    "open_netlink",
    "owned_taps",
    "set_mtu",
    "set_up_addresses",
    "set_up_tap",
]

IFF_UP: Final = 1

# The shortest prefix without a broadcast address (RFC 3021).
IPV4_POINT_TO_POINT_PREFIX: Final = 31


@dataclass(frozen=True, slots=True)
class Interface:
    """The state of an interface.

    Attributes:
        index: unique in its network namespace while the interface exists.
        name: its name.
        kind: such as ``bridge``, ``tun`` or ``veth``; None for hardware and the loopback.
        mtu: in bytes.
        mac: its MAC address, six bytes.
        is_up: whether it is administratively up.
        master: the index of its bridge; None if it is not a port.
    """

    index: int
    name: str
    kind: str | None
    mtu: int
    mac: bytes
    is_up: bool
    master: int | None


@dataclass(frozen=True, slots=True)
class OwnedTap:
    """A persistent TAP that was created for this user.

    Attributes:
        name: its name.
        bridge: the name of its bridge; None if it is not a port.
    """

    name: str
    bridge: str | None


@isolated
def set_up_tap(
    index: int, *, bridge: str | None = None, mtu: int | None = None, address: str | None = None
) -> tuple[Interface, Interface | None]:
    """Set a TAP's MTU and MAC address, put it in a bridge, and bring it up.

    A bridge that does not exist is created and brought up.  An existing bridge is not changed, up
    or down.

    Args:
        index: of the TAP.
        bridge: the bridge's name; None leaves the TAP where it is.
        mtu: in bytes; None leaves it unchanged.
        address: the MAC address as text; None leaves it unchanged.

    Returns:
        The state of the TAP afterwards, and that of the bridge if one was given.

    Raises:
        SetupError: an interface is missing, or the change is not permitted; the message has the
            command that helps.
    """
    with open_netlink() as ipr:
        tap = _get(ipr, index)
        if mtu is not None and tap.mtu != mtu:
            _change(ipr, tap, f"ip link set {tap.name} mtu {mtu}", mtu=mtu)
        if address is not None:
            _change(ipr, tap, f"ip link set {tap.name} address {address}", address=address)
        master = None if bridge is None else _join(ipr, tap, bridge)
        if not tap.is_up:
            _change(ipr, tap, f"ip link set {tap.name} up", state="up")
        return _get(ipr, index), master


@isolated
def set_mtu(index: int, mtu: int) -> None:
    """Set an interface's MTU, in bytes.

    Raises:
        SetupError: the interface is gone, the change is not permitted, or the MTU is out of range.
    """
    with open_netlink() as ipr:
        interface = _get(ipr, index)
        _change(ipr, interface, f"ip link set {interface.name} mtu {mtu}", mtu=mtu)


@isolated
def set_up_addresses(
    index: int, wanted: Iterable[IPv4Interface | IPv6Interface]
) -> tuple[Interface, list[IPv4Address | IPv6Address]]:
    """Add addresses to an interface; those that it has stay.

    Args:
        index: of the interface.
        wanted: the addresses with their prefixes.

    Returns:
        The state of the interface, and all its addresses, link-local ones included.

    Raises:
        SetupError: the interface is gone, or the change is not permitted.
    """
    with open_netlink() as ipr:
        interface = _get(ipr, index)
        present = _addresses(ipr, index)
        for address in wanted:
            if address.ip not in present:
                with _explained(f"ip addr add {address} dev {interface.name}"):
                    ipr.addr(
                        "replace",
                        index=index,
                        address=str(address.ip),
                        prefixlen=address.network.prefixlen,
                        **_broadcast(address),
                    )
        return interface, _addresses(ipr, index)


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
            taps.append((int(name[3:]), OwnedTap(name, names.get(link.get_attr("IFLA_MASTER")))))
    return [tap for _, tap in sorted(taps, key=lambda numbered: numbered[0])]


def _addresses(ipr: Any, index: int) -> list[IPv4Address | IPv6Address]:
    from ipaddress import ip_address

    addresses = []
    for message in ipr.get_addr(index=index):
        # On an IPv4 point-to-point link, IFA_ADDRESS is the address of the other end.
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        addresses.append(ip_address(text))
    return addresses


def _broadcast(address: IPv4Interface | IPv6Interface) -> dict[str, str]:
    """Return the broadcast address that ``ip addr add ... brd +`` sets, as an argument."""
    if address.version == 6 or address.network.prefixlen >= IPV4_POINT_TO_POINT_PREFIX:
        return {}
    return {"broadcast": str(address.network.broadcast_address)}


def _join(ipr: Any, tap: Interface, bridge: str) -> Interface:
    """Put a TAP in a bridge, creating the bridge if needed; return the bridge's state."""
    master = _find(ipr, bridge)
    if master is not None and master.kind != "bridge":
        raise SetupError(
            f"{bridge} is an interface, but not a bridge;"
            " put it in a bridge, and give the name of that bridge"
        )
    if master is not None and tap.master == master.index:
        return master
    if tap.master is not None:
        raise SetupError(
            f"{tap.name} is already a port of {_get(ipr, tap.master).name}; give the name of that"
            f" bridge, or take {tap.name} out of it: ip link set {tap.name} nomaster"
        )
    if master is None:
        master = _create_bridge(ipr, bridge, tap)
    up = "" if tap.is_up else " up"
    _change(ipr, tap, f"ip link set {tap.name}{up} master {bridge}", master=master.index)
    return master


def _create_bridge(ipr: Any, name: str, tap: Interface) -> Interface:
    command = f"ip link add {name} type bridge && ip link set {name} up"
    command += f" && ip link set {tap.name} up master {name}"
    with _explained(command):
        try:
            ipr.link("add", ifname=name, kind="bridge")
        except Exception as exc:
            # Another process created it at the same moment.
            if getattr(exc, "code", None) != errno.EEXIST:
                raise
    bridge = _find(ipr, name)
    if bridge is None:
        raise SetupError(f"the bridge {name} was deleted while it was being created; try again")
    _change(ipr, bridge, command, state="up")
    return _get(ipr, bridge.index)


def _find(ipr: Any, name: str) -> Interface | None:
    """Return the interface with this name; None if there is none."""
    return next(map(_interface, ipr.get_links(ifname=name)), None)


def _get(ipr: Any, index: int) -> Interface:
    """Return the interface with this index, which a change of its name does not affect."""
    with _explained(f"ip link show | grep '^{index}:'"):
        return next(map(_interface, ipr.get_links(index)))


def _interface(link: Any) -> Interface:
    return Interface(
        index=link["index"],
        name=link.get_attr("IFLA_IFNAME"),
        kind=link.get(("linkinfo", "kind")),
        mtu=link.get_attr("IFLA_MTU"),
        mac=bytes.fromhex((link.get_attr("IFLA_ADDRESS") or "").replace(":", "")),
        is_up=bool(link["flags"] & IFF_UP),
        master=link.get_attr("IFLA_MASTER"),
    )


def _change(ipr: Any, interface: Interface, command: str, **changes: Any) -> None:
    """Change an interface; an error shows `command`, which makes the same change by hand."""
    with _explained(command):
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
def _explained(command: str) -> Iterator[None]:
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
