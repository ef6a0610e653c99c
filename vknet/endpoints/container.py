"""Whether this process runs in a container, and in which one.

A container has its own answer to a missing device or right: an option of the program that started
it.  Root in the container cannot load a module or create a device.

The marks are those of systemd-detect-virt(1): the variable ``container``, the file in which systemd
keeps it, and the files of Docker and Podman.  A user namespace whose root is not the host's root
counts too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["container_cure", "is_user_namespace"]

ROOT: Final = Path("/")

DOCKER_CURE: Final = "start the container with: --device /dev/net/tun --cap-add NET_ADMIN"

# By the name that systemd and the managers use.
CURES: Final = {
    "docker": DOCKER_CURE,
    "podman": DOCKER_CURE,
    "oci": DOCKER_CURE,
    "systemd-nspawn": (
        "start the container with: --bind=/dev/net/tun --property=DeviceAllow='/dev/net/tun rw'"
        " --private-network --capability=CAP_NET_ADMIN"
    ),
    "lxc": (
        "set lxc.cgroup2.devices.allow = c 10:200 rwm and lxc.mount.entry = /dev/net/tun"
        " dev/net/tun none bind,create=file for the container, or with Incus or LXD: incus config"
        " device add CONTAINER tun unix-char path=/dev/net/tun"
    ),
    "kubernetes": (
        "give the container the capability NET_ADMIN in its securityContext, and /dev/net/tun as a"
        " hostPath volume or through a device plugin"
    ),
}

OTHER_CURE: Final = "give the container the device /dev/net/tun and the capability CAP_NET_ADMIN"


def container_cure(root: Path = ROOT) -> str | None:
    """Return what gives this container the device and the right; None if this is no container.

    Args:
        root: the root of the file system.
    """
    name = _container(root)
    return None if name is None else CURES.get(name, OTHER_CURE)


def is_user_namespace(root: Path = ROOT) -> bool:
    """Whether root here is another user outside, so that it has no rights on the host."""
    try:
        words = (root / "proc/self/uid_map").read_text().split()
    except OSError:
        return False
    return words[:3] != ["0", "0", "4294967295"]


def _container(root: Path) -> str | None:
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    name = os.environ.get("container", "")  # noqa: SIM112 - systemd's name for it
    if not name:
        try:
            name = (root / "run/systemd/container").read_text().strip()
        except OSError:
            name = ""
    if name:
        # Such as "lxc-libvirt".
        return name if name in CURES else name.partition("-")[0]
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    return None
