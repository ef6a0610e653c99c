"""Choose a TAP and open it: a named one, or the first unused one of this user, or a new one."""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
import stat
from errno import EACCES, EBUSY, EINVAL, ENODEV, ENOENT, ENXIO, EPERM
from itertools import count
from pathlib import Path
from typing import Final

from vknet.endpoints import netlink, tun
from vknet.endpoints.container import container_cure, is_user_namespace
from vknet.endpoints.interface import find_index, name_of
from vknet.errors import SetupError
from vknet.spec import INTERFACE_LIMIT

__all__ = [
    "TapPermissionError",
    "creation_commands",
    "open_named",
    "open_unused",
    "refuse_macvtap",
    "stable_mac",
    "user_name",
]

# The kernel replaces %d with the first unused number, atomically.
NEW_TAP: Final = "tap%d"

# The names in /proc/devices of the drivers whose devices are called /dev/tapN.
MACVTAP_DRIVERS: Final = ("macvtap", "ipvtap")


class TapPermissionError(SetupError):
    """This user may not create TAPs; the message has the commands for an administrator."""


def open_unused(bridge: str | None) -> tuple[int, str, bool]:
    """Open the first unused TAP that was created for this user, or else a new one.

    Args:
        bridge: the bridge that it will join; None if none.  TAPs in other bridges are left out.

    Returns:
        A descriptor, which the caller closes; the interface's name; and whether it was created.

    Raises:
        SetupError: no TAP can be opened; the message gives the cause and the command that helps.
    """
    # A missing device is reported first: it affects every TAP.
    os.close(_open_device())
    names = [name for _, name in socket.if_nameindex()]
    owned = netlink.owned_taps() if any(name.startswith("tap") for name in names) else []
    wanted = [None, None if bridge is None else _current_name(bridge)]
    for tap in owned:
        if not tap.in_use and (bridge is None or tap.bridge in wanted):
            try:
                return open_named(tap.name, bridge)
            except SetupError:
                continue
    try:
        return open_named(NEW_TAP, bridge)
    except SetupError as exc:
        if not owned:
            raise
        others = ", ".join(tap.name for tap in owned)
        raise SetupError(
            f"every TAP created for {user_name()} is in use or in another bridge ({others}),"
            f" and {exc}"
        ) from exc


def open_named(name: str, bridge: str | None) -> tuple[int, str, bool]:
    """Open a TAP, creating it if it does not exist.

    Args:
        name: the interface's name, or `NEW_TAP`.
        bridge: the bridge that it will join, for the command in an error; None if none.

    Returns:
        A descriptor, which the caller closes; the interface's name; and whether it was created.

    Raises:
        SetupError: it cannot be opened; the message gives the cause and the command that helps.
    """
    current = _current_name(name) or name
    if len(current.encode()) > INTERFACE_LIMIT:
        raise SetupError(
            f"no interface has the name or alternative name {current}, and vknet cannot create such"
            f" a TAP: the name of a new interface has at most {INTERFACE_LIMIT} characters"
        )
    fd = _open_device()
    try:
        actual, created = _attach(fd, current)
    except OSError as exc:
        os.close(fd)
        raise _why_not(current, bridge, exc) from exc
    except BaseException:
        os.close(fd)
        raise
    return fd, actual, created


def _attach(fd: int, name: str) -> tuple[str, bool]:
    """Connect a descriptor to a TAP, also to one that was created with ``multi_queue``."""
    try:
        return tun.set_interface(fd, name)
    except OSError as exc:
        queues = netlink.used_queues(name) if exc.errno == EINVAL else None
        if queues is None:
            raise
        if queues:
            # The kernel would share the frames between the programs.
            raise OSError(EBUSY, os.strerror(EBUSY)) from exc
        return tun.set_interface(fd, name, multi_queue=True)


def refuse_macvtap(path: str) -> None:
    """Raise if a path such as ``/dev/tap3`` is the device of a macvtap interface.

    Such a device has the index of its interface as the number, and nothing to do with the TAP of
    the same name.

    Raises:
        SetupError: it is; the message names the interface.
    """
    try:
        status = Path(path).stat()
        drivers = Path("/proc/devices").read_text().split("Block devices:")[0].splitlines()
    except OSError:
        return
    driver = dict(line.split() for line in drivers[1:] if line).get(str(os.major(status.st_rdev)))
    if not stat.S_ISCHR(status.st_mode) or driver not in MACVTAP_DRIVERS:
        return
    name = name_of(int(path.removeprefix("/dev/tap")))
    raise SetupError(
        f"{path} is the device of the {driver} interface{'' if name is None else f' {name}'}, which"
        " vknet does not support; give auto, and -b BRIDGE (-B on the remote side) with the network"
        f" card in that bridge; a TAP of that name is written {path.removeprefix('/dev/')}"
    )


def _current_name(name: str) -> str | None:
    """Return the name of the interface with this name or alternative name; None if there is none.

    `NEW_TAP` is no such name.
    """
    index = find_index(name)
    return None if index is None else name_of(index)


def stable_mac(name: str) -> str:
    """Return a MAC address for a TAP, the same each time the TAP is created.

    A bridge uses the lowest MAC address of its ports.  This one is high, so a bridge with other
    ports keeps its own address.  A bridge without other ports gets the same address again after the
    TAP was deleted and created again, so the hosts on the network still reach it.

    The address depends on the boot, the network namespace and the interface's name.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    namespace = Path("/proc/self/ns/net").stat().st_ino
    digest = hashlib.sha256(f"{boot}{namespace} {name}".encode()).digest()
    return bytes([0xFE, *digest[:5]]).hex(":")


def _open_device() -> int:
    try:
        return tun.open_device()
    except OSError as exc:
        raise SetupError(_why_no_device(exc)) from exc


def _why_no_device(exc: OSError) -> str:
    cure = container_cure()
    missing = exc.errno in (ENOENT, ENXIO, ENODEV)
    # EPERM: the device is there, but the container may not use it (cgroup-v2, devices).
    if cure is not None and (missing or exc.errno == EPERM):
        what = "no" if missing else "no permission to open"
        return f"{what} {tun.TUN_DEVICE}; this is a container: {cure}"
    if missing:
        return f"no {tun.TUN_DEVICE}; as root: modprobe tun"
    if exc.errno in (EACCES, EPERM):
        return f"no permission to open {tun.TUN_DEVICE}; as root: chmod 0666 {tun.TUN_DEVICE}"
    return f"cannot open {tun.TUN_DEVICE}: {exc.strerror}"


def creation_commands(name: str, user: str, bridge: str | None, *, add_bridge: bool) -> str:
    """Return the commands with which an administrator prepares a TAP for a user.

    Args:
        name: of the TAP.
        user: the name or the number of the user.
        bridge: the bridge that it joins; None for none.
        add_bridge: whether the bridge has to be created, too.
    """
    commands = [f"ip tuntap add dev {name} mode tap user {user}"]
    if bridge is not None and add_bridge:
        commands += [f"ip link add {bridge} type bridge", f"ip link set {bridge} up"]
    commands += [f"ip link set {name} up" + (f" master {bridge}" if bridge else "")]
    if bridge is not None:
        # The user may not do what `joining.expect_listeners` does.
        commands += [f"ip link set {name} type bridge_slave mcast_router 2"]
    return " && ".join(commands)


def _why_not(name: str, bridge: str | None, exc: OSError) -> SetupError:
    if exc.errno != EPERM:
        return SetupError(_why_not_open(name, exc))
    names = {name for _, name in socket.if_nameindex()}
    if name in names:
        return SetupError(f"the TAP {name} was created for another user; name another TAP, or auto")
    if os.geteuid() == 0:
        return SetupError(f"no permission to create a TAP; {_why_powerless()}")
    if name == NEW_TAP:
        name = next(tap for n in count() if (tap := f"tap{n}") not in names)
    add_bridge = bridge is not None and find_index(bridge) is None
    commands = creation_commands(name, user_name(), bridge, add_bridge=add_bridge)
    return TapPermissionError(f"no permission to create the TAP {name}; as root, once: {commands}")


def _why_not_open(name: str, exc: OSError) -> str:
    if exc.errno == EBUSY:
        return f"{name} is in use by another program; name another TAP, or auto"
    if exc.errno == EINVAL and find_index(name) is not None:
        return (
            f"{name} is an interface, but not a TAP; put it in a bridge, name the bridge with -b"
            " (-B on the remote side), and give auto as the spec"
        )
    return f"cannot open the TAP {name}: {exc.strerror}"


def _why_powerless() -> str:
    """Return why root may not create a TAP."""
    cure = container_cure()
    if cure is not None:
        return f"this is a container: {cure}"
    if is_user_namespace():
        return (
            "this is the root of a user namespace, which may create one only in a network namespace"
            " of its own, such as: unshare --map-root-user --net"
        )
    return "this process runs as root, but without the capability CAP_NET_ADMIN"


def user_name() -> str:
    """Return the name of the user who runs vknet, or the number of one without a name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
