"""Put a TAP in a bridge.

The public functions run in a child process, like those of `vknet.endpoints.netlink`.  They block,
so call them in a worker thread.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vknet.endpoints.isolated import isolated
from vknet.endpoints.netlink import (
    change,
    explained,
    find_interface,
    get_interface,
    open_netlink,
)
from vknet.errors import SetupError
from vknet.packet.ethernet import DEFAULT_MTU, MTU_MAX
from vknet.spec import INTERFACE_LIMIT

if TYPE_CHECKING:
    from vknet.endpoints.interface import Interface

__all__ = ["JoinedBridge", "expect_listeners", "set_up_tap"]

# The clock ticks per second of the kernel's interface, in which bridges have their times.
USER_HZ: Final = 100

# IFLA_BR_STP_STATE: the kernel runs the spanning tree protocol.
KERNEL_STP: Final = 1

# IFLA_BRPORT_MULTICAST_ROUTER of linux/if_bridge.h: MDB_RTR_TYPE_TEMP_QUERY, the default, and
# MDB_RTR_TYPE_TEMP.
ROUTER_BY_QUERY: Final = 1
ROUTER_FOR_NOW: Final = 3


@dataclass(frozen=True, slots=True)
class JoinedBridge:
    """The bridge that a TAP was put in, or is in.

    Attributes:
        interface: its state afterwards.
        created: it did not exist before.
        mtu_before: its MTU before the TAP joined, in bytes.
        has_own_mtu: that MTU came from other ports or from an administrator.
        silence_s: seconds for which it forwards nothing through a new port, because it runs the
            spanning tree protocol; 0 without.
    """

    interface: Interface
    created: bool
    mtu_before: int
    has_own_mtu: bool
    silence_s: float


@isolated
def set_up_tap(
    index: int,
    *,
    bridge: str | None = None,
    mtu: int | None = None,
    address: str | None = None,
    adopt_mtu: bool = False,
) -> tuple[Interface, JoinedBridge | None]:
    """Set a TAP's MTU and MAC address, put it in a bridge, and bring it up.

    A bridge that does not exist is created and brought up.  An existing bridge is not changed, up
    or down.

    Args:
        index: of the TAP.
        bridge: the bridge's name or alternative name; None leaves the TAP where it is.
        mtu: in bytes; None leaves it unchanged.
        address: the MAC address as text; None leaves it unchanged.
        adopt_mtu: give the TAP the MTU of a bridge that has one of its own, because a bridge takes
            the lowest MTU of its ports.

    Returns:
        The state of the TAP afterwards, and its bridge; None if it is not a port of one.

    Raises:
        SetupError: an interface is missing, or the change is not permitted; the message has the
            command that helps.
    """
    with open_netlink() as ipr:
        tap = get_interface(index)
        if mtu is not None and tap.mtu != mtu:
            change(ipr, tap, f"ip link set {tap.name} mtu {mtu}", mtu=mtu)
        if address is not None:
            change(ipr, tap, f"ip link set {tap.name} address {address}", address=address)
        joined = None
        if bridge is not None:
            joined = _join(ipr, tap, bridge, adopt_mtu=adopt_mtu)
        elif tap.master is not None:
            master = get_interface(tap.master)
            # Ports of bonds and of Open vSwitch have a master of another kind.
            joined = _joined(ipr, master) if master.kind == "bridge" else None
        if not tap.is_up:
            change(ipr, tap, f"ip link set {tap.name} up", state="up")
        if joined is not None:
            _expect_listeners(ipr, index)
        return get_interface(index), joined


@isolated
def expect_listeners(index: int) -> None:
    """Have a bridge send all multicast frames through a port, until it has queried its listeners.

    If the bridge knows a multicast querier, a port without listeners gets no multicast frames, and
    IPv6 neighbour solicitations are among them.  The stations behind a new link report the groups
    that they listen to only at the next query, up to two minutes later.  The port counts as one
    with a router (mcast_router 3 of bridge(8)) until a querier that has fallen silent would be
    forgotten (mcast_querier_interval, 255 s), so at least one query comes in time.  A port whose
    setting an administrator changed is left alone.

    It does nothing if the change is not permitted or the interface is not a port.

    Args:
        index: of the port.

    Raises:
        SetupError: the interface is gone, or netlink failed.
    """
    with open_netlink() as ipr:
        _expect_listeners(ipr, index)


def _join(ipr: Any, tap: Interface, bridge: str, *, adopt_mtu: bool) -> JoinedBridge:
    """Put a TAP in a bridge, creating the bridge if needed."""
    master = find_interface(bridge)
    if master is not None and master.kind == "openvswitch":
        raise SetupError(
            f"{bridge} is a bridge of Open vSwitch, which ip(8) cannot give a port; run vknet"
            f" without this bridge and with the spec tap:{tap.name}, and once, as root:"
            f" ovs-vsctl add-port {bridge} {tap.name}"
        )
    if master is not None and master.kind != "bridge":
        raise SetupError(
            f"{bridge} is an interface, but not a bridge;"
            " put it in a bridge, and give the name of that bridge"
        )
    if master is not None and tap.master == master.index:
        return _joined(ipr, master)
    if tap.master is not None:
        other = get_interface(tap.master).name
        raise SetupError(
            f"{tap.name} is already a port of {other}; give the name of that bridge, or take"
            f" {tap.name} out of it: ip link set {tap.name} nomaster"
        )
    created = master is None
    if master is None:
        master = _create_bridge(ipr, bridge, tap)
    has_own_mtu = not created and (
        master.mtu != DEFAULT_MTU
        or any(link.get_attr("IFLA_MASTER") == master.index for link in ipr.get_links())
    )
    mtu = min(master.mtu, MTU_MAX)
    if has_own_mtu and adopt_mtu and tap.mtu != mtu:
        change(ipr, tap, f"ip link set {tap.name} mtu {mtu}", mtu=mtu)
    up = "" if tap.is_up else " up"
    change(ipr, tap, f"ip link set {tap.name}{up} master {master.name}", master=master.index)
    return _joined(ipr, master, created=created, has_own_mtu=has_own_mtu)


def _joined(
    ipr: Any, before: Interface, *, created: bool = False, has_own_mtu: bool = False
) -> JoinedBridge:
    """Look at a bridge that a TAP has joined."""
    link = next(iter(ipr.get_links(before.index)))
    data = ("linkinfo", "data")
    # With STP, a port listens and then learns, each for the forward delay.
    has_stp = link.get((*data, "br_stp_state")) == KERNEL_STP
    ticks = 2 * link.get((*data, "br_forward_delay")) if has_stp else 0
    return JoinedBridge(
        get_interface(before.index), created, before.mtu, has_own_mtu, ticks / USER_HZ
    )


def _expect_listeners(ipr: Any, index: int) -> None:
    info = next(iter(ipr.get_links(index))).get_attr("IFLA_LINKINFO")
    if info is None or info.get_attr("IFLA_INFO_SLAVE_KIND") != "bridge":
        return
    setting = info.get_attr("IFLA_INFO_SLAVE_DATA").get_attr("IFLA_BRPORT_MULTICAST_ROUTER")
    if setting in (ROUTER_BY_QUERY, ROUTER_FOR_NOW):
        # A user without CAP_NET_ADMIN may not do this; without multicast snooping in the kernel,
        # there is no need.
        command = f"ip link set dev {index} type bridge_slave mcast_router {ROUTER_FOR_NOW}"
        with suppress(SetupError), explained(command):
            ipr.brport("set", index=index, multicast_router=ROUTER_FOR_NOW)


def _create_bridge(ipr: Any, name: str, tap: Interface) -> Interface:
    if len(name.encode()) > INTERFACE_LIMIT:
        raise SetupError(
            f"no interface has the name or alternative name {name}, and vknet cannot create such a"
            f" bridge: the name of a new interface has at most {INTERFACE_LIMIT} characters"
        )
    command = f"ip link add {name} type bridge && ip link set {name} up"
    command += f" && ip link set {tap.name} up master {name}"
    with explained(command):
        try:
            ipr.link("add", ifname=name, kind="bridge")
        except Exception as exc:
            # Another process created it at the same moment.
            if getattr(exc, "code", None) != errno.EEXIST:
                raise
    bridge = find_interface(name)
    if bridge is None:
        raise SetupError(f"the bridge {name} was deleted while it was being created; try again")
    change(ipr, bridge, command, state="up")
    return get_interface(bridge.index)
