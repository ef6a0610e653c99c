"""Interfaces and bridges, over rtnetlink(7): the only module that imports pyroute2.

Every function opens its own netlink socket, does one thing and closes it again, in a process of its
own (`vknet.endpoints.isolated`), so that pyroute2 is imported in there.  They block, so they are
called in a worker thread.

What is already as wanted is not touched, so that a user without rights can use what an
administrator prepared.
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

__all__ = ["Interface", "OwnedTap", "owned_taps", "set_mtu", "set_up_addresses", "set_up_tap"]

IFF_UP: Final = 1

# RFC 3021: from here on there is no broadcast address.
IPV4_POINT_TO_POINT: Final = 31


@dataclass(frozen=True, slots=True)
class Interface:
    """What the kernel says of an interface.

    Attributes:
        index: its number, unique as long as it exists.
        name: its name.
        kind: ``bridge``, ``tun``, ``veth`` ...; None for hardware and the loopback.
        mtu: in bytes.
        mac: its MAC address, as six bytes.
        is_up: administratively up.
        master: the index of the bridge it is a port of; None if it is in none.
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
    """A TAP that was made for this user.

    Attributes:
        name: its name.
        bridge: the name of the bridge it is a port of; None if it is in none.
    """

    name: str
    bridge: str | None


@isolated
def set_up_tap(
    index: int, *, bridge: str | None = None, mtu: int | None = None, address: str | None = None
) -> tuple[Interface, Interface | None]:
    """Give a TAP this MTU and MAC address, put it in this bridge, and bring it up.

    A bridge that does not exist is created and brought up.  A bridge that exists is left as it is,
    down or up.  What is None is left as it is, too.

    Returns:
        How the TAP stands then, and its bridge, if one was given.

    Raises:
        SetupError: something is missing or not permitted; the message has the command that helps.
    """
    with _netlink() as ipr:
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
    """Give an interface this MTU, in bytes.

    Raises:
        SetupError: it is gone, or that is not permitted, or out of its range.
    """
    with _netlink() as ipr:
        interface = _get(ipr, index)
        _change(ipr, interface, f"ip link set {interface.name} mtu {mtu}", mtu=mtu)


@isolated
def set_up_addresses(
    index: int, wanted: Iterable[IPv4Interface | IPv6Interface]
) -> tuple[Interface, list[IPv4Address | IPv6Address]]:
    """Give an interface these addresses, beside those it has.

    Returns:
        How it stands then, and all of its addresses, link-local ones included.

    Raises:
        SetupError: it is gone, or that is not permitted.
    """
    with _netlink() as ipr:
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
    """The persistent TAPs named ``tapN`` made for this very user or a group of theirs, by number.

    One without an owner is not among them: any process may take it over, and some other one may
    be meant to.
    """
    user, groups = os.geteuid(), {os.getegid(), *os.getgroups()}
    with _netlink() as ipr:
        links = list(ipr.get_links())
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
    found: list[tuple[int, OwnedTap]] = []
    for link in links:
        name = link.get_attr("IFLA_IFNAME")
        if not name.startswith("tap") or not name[3:].isdecimal():
            continue
        data = ("linkinfo", "data")
        owner, group = link.get((*data, "tun_owner")), link.get((*data, "tun_group"))
        if link.get(("linkinfo", "kind")) == "tun" and (owner == user or group in groups):
            found.append((int(name[3:]), OwnedTap(name, names.get(link.get_attr("IFLA_MASTER")))))
    return [tap for _, tap in sorted(found, key=lambda numbered: numbered[0])]


def _addresses(ipr: Any, index: int) -> list[IPv4Address | IPv6Address]:
    from ipaddress import ip_address

    found = []
    for message in ipr.get_addr(index=index):
        # On IPv4 IFA_ADDRESS is the other end of a point-to-point link, where there is one.
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        found.append(ip_address(text))
    return found


def _broadcast(address: IPv4Interface | IPv6Interface) -> dict[str, str]:
    """What ``ip addr add ... brd +`` sets."""
    if address.version == 6 or address.network.prefixlen >= IPV4_POINT_TO_POINT:
        return {}
    return {"broadcast": str(address.network.broadcast_address)}


def _join(ipr: Any, tap: Interface, bridge: str) -> Interface:
    """Put a TAP in a bridge, and make that if need be; how the bridge stands then."""
    master = _find(ipr, bridge)
    if master is not None and master.kind != "bridge":
        raise SetupError(f"{bridge} is an interface, but not a bridge; choose another name")
    if master is not None and tap.master == master.index:
        return master
    if tap.master is not None:
        raise SetupError(
            f"{tap.name} is already a port of another bridge;"
            f" take it out first: ip link set {tap.name} nomaster"
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
            # Somebody else made it in this very moment: as good.
            if getattr(exc, "code", None) != errno.EEXIST:
                raise
    bridge = _find(ipr, name)
    if bridge is None:
        raise SetupError(f"{name}: the bridge has gone as soon as it was made")
    _change(ipr, bridge, command, state="up")
    return _get(ipr, bridge.index)


def _find(ipr: Any, name: str) -> Interface | None:
    """The interface of this name."""
    return next(map(_interface, ipr.get_links(ifname=name)), None)


def _get(ipr: Any, index: int) -> Interface:
    """The interface of this number: it stays the same one when it is renamed."""
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


def _change(ipr: Any, interface: Interface, command: str, **what: Any) -> None:
    """Change an interface; `command` does the same by hand and stands in the error."""
    with _explained(command):
        ipr.link("set", index=interface.index, **what)


@contextmanager
def _netlink() -> Iterator[Any]:
    """A netlink socket for one call, or an error that says why there is none."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as ipr:
            yield ipr
    except (OSError, NetlinkError) as exc:
        raise SetupError(f"asking the kernel for its interfaces failed: {exc}") from exc


@contextmanager
def _explained(command: str) -> Iterator[None]:
    """Translate what the kernel refused; NetlinkError is no OSError."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as exc:
        if exc.code == errno.ENODEV:
            message = f"the interface has gone ({command})"
        elif exc.code in (errno.EPERM, errno.EACCES):
            message = f"no right to change interfaces; an administrator can do it: {command}"
        elif exc.code == errno.EOPNOTSUPP:
            message = f"this kernel cannot do it ({command}); is a module missing?"
        else:
            message = f"the kernel refused ({command}): {os.strerror(exc.code)}"
        raise SetupError(message) from exc
