"""Choose a TAP and open it: a named one, or the first unused one of this user, or a new one."""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
from errno import EACCES, EBUSY, EINVAL, ENODEV, ENOENT, ENXIO, EPERM
from itertools import count
from pathlib import Path
from typing import Final

from vknet.endpoints import netlink, tun
from vknet.endpoints.container import container_cure, is_user_namespace
from vknet.errors import SetupError

__all__ = ["open_named", "open_unused", "stable_mac"]

# The kernel replaces %d with the first unused number, atomically.
NEW_TAP: Final = "tap%d"


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
    wanted = [None] if bridge is None or bridge not in names else [None, bridge]
    for tap in owned:
        if bridge is None or tap.bridge in wanted:
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
            f"every TAP created for {_user()} is in use or in another bridge ({others}), and {exc}"
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
    fd = _open_device()
    try:
        actual, created = tun.set_interface(fd, name)
    except OSError as exc:
        os.close(fd)
        raise SetupError(_why_not(name, bridge, exc)) from exc
    return fd, actual, created


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


def _why_not(name: str, bridge: str | None, exc: OSError) -> str:
    names = {name for _, name in socket.if_nameindex()}
    exists = name in names
    if exc.errno == EBUSY:
        return f"{name} is in use by another program; name another TAP, or auto"
    if exc.errno == EINVAL and exists:
        return (
            f"{name} is an interface, but not a TAP; put it in a bridge, name the bridge with -b"
            " (-B on the remote side), and give auto as the spec"
        )
    if exc.errno == EPERM and exists:
        return f"the TAP {name} was created for another user; name another TAP, or auto"
    if exc.errno == EPERM and os.geteuid() == 0:
        return f"no permission to create a TAP; {_why_powerless()}"
    if exc.errno == EPERM:
        if name == NEW_TAP:
            name = next(tap for n in count() if (tap := f"tap{n}") not in names)
        commands = [f"ip tuntap add dev {name} mode tap user {_user()}"]
        if bridge is not None and bridge not in names:
            commands += [f"ip link add {bridge} type bridge", f"ip link set {bridge} up"]
        commands += [f"ip link set {name} up" + (f" master {bridge}" if bridge else "")]
        return f"no permission to create the TAP {name}; as root, once: {' && '.join(commands)}"
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


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
