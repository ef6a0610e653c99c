"""Which TAP it is to be, and how to get hold of it: a named one, the first unused one, a new one.

The name ``tap%d`` makes the kernel pick the first unused number, in one step.
"""

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
from vknet.errors import SetupError

__all__ = ["attach", "attach_unused", "stable_mac"]

# The kernel puts the first unused number in.
ANY_UNUSED: Final = "tap%d"


def attach_unused(bridge: str | None) -> tuple[int, str, bool]:
    """Attach to the first unused TAP that is meant for this user, or else to a new one.

    Args:
        bridge: that it is to be in; None if none.

    Returns:
        Its descriptor, its name, and whether it was made.

    Raises:
        SetupError: there is none to be had, and why, and the command that helps.
    """
    # Without the device none can be had, whoever they were made for.
    os.close(_open_device())
    names = [name for _, name in socket.if_nameindex()]
    owned = netlink.owned_taps() if any(name.startswith("tap") for name in names) else []
    wanted = [None] if bridge is None or bridge not in names else [None, bridge]
    for tap in owned:
        if bridge is None or tap.bridge in wanted:
            try:
                return attach(tap.name, bridge)
            except SetupError:
                continue
    try:
        return attach(ANY_UNUSED, bridge)
    except SetupError as exc:
        if not owned:
            raise
        others = ", ".join(tap.name for tap in owned)
        raise SetupError(
            f"every TAP made for {_user()} is in use or in another bridge ({others}), and {exc}"
        ) from exc


def attach(name: str, bridge: str | None) -> tuple[int, str, bool]:
    """Attach to a TAP, making it if need be.

    Args:
        name: the interface's.
        bridge: that it is to be in, for the advice; None if none.

    Returns:
        Its descriptor, its name, and whether it was made.

    Raises:
        SetupError: it cannot be had, and why, and the command that helps.
    """
    fd = _open_device()
    try:
        actual, made = tun.attach(fd, name)
    except OSError as exc:
        os.close(fd)
        raise SetupError(_why_not(name, bridge, exc)) from exc
    return fd, actual, made


def stable_mac(name: str) -> str:
    """A MAC address for a TAP that is made anew with every link, and yet keeps its address.

    A bridge takes the lowest address of its ports for its own, so this one is high, for a bridge
    with other ports to keep its own; and it is the same whenever this TAP is made, for a bridge
    without other ports to be found at its old address after a link was lost.  It is unique to this
    boot of this machine, and to this network namespace.
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
    if exc.errno in (ENOENT, ENXIO, ENODEV):
        return f"no {tun.TUN_DEVICE} here; as root: modprobe tun"
    if exc.errno in (EACCES, EPERM):
        return f"no right to open {tun.TUN_DEVICE}; as root: chmod 0666 {tun.TUN_DEVICE}"
    return f"cannot open {tun.TUN_DEVICE}: {exc.strerror}"


def _why_not(name: str, bridge: str | None, exc: OSError) -> str:
    names = {name for _, name in socket.if_nameindex()}
    exists = name in names
    if exc.errno == EBUSY:
        return f"{name} is in use by another program; name another TAP, or auto"
    if exc.errno == EINVAL and exists:
        return (
            f"{name} is an interface, but not a TAP; to join a bridge name it with -b (its remote"
            " side's with -B) and let the spec be auto; any other interface by way of a bridge"
        )
    if exc.errno == EPERM and exists:
        return f"the TAP {name} was made for another user; name another one, or auto"
    if exc.errno == EPERM:
        if name == ANY_UNUSED:
            name = next(tap for n in count() if (tap := f"tap{n}") not in names)
        commands = [f"ip tuntap add dev {name} mode tap user {_user()}"]
        if bridge is not None and bridge not in names:
            commands += [f"ip link add {bridge} type bridge", f"ip link set {bridge} up"]
        commands += [f"ip link set {name} up" + (f" master {bridge}" if bridge else "")]
        return f"no right to make the TAP {name}; as root, once: {' && '.join(commands)}"
    return f"cannot open the TAP {name}: {exc.strerror}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
