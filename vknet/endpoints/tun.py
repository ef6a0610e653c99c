"""The system calls of /dev/net/tun: the kernel's Documentation/networking/tuntap.rst.

Facts the code rests on, seen on Linux 6.18:

* A persistent TAP remembers header size, byte order and offloads of its last user, and takes its
  flags from the next: so all of them are set on every attach, IFF_VNET_HDR also on a TAP that
  ``ip tuntap`` made without it.
* Offloads rest on each other; a combination that the kernel does not have is EINVAL as a whole.
* Frames that were queued before offloads were lowered still come out as they went in.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import Final

from vknet.packet.virtio import ALL_OFFLOADS, NO_OFFLOADS, VNET_HEADER_SIZE, Offload

__all__ = ["TUN_DEVICE", "attach", "capabilities", "current_mtu", "open_device", "set_offloads"]

TUN_DEVICE: Final = "/dev/net/tun"

# linux/if_tun.h
TUNSETIFF: Final = 0x400454CA
TUNGETIFF: Final = 0x800454D2
TUNSETOFFLOAD: Final = 0x400454D0
TUNSETVNETHDRSZ: Final = 0x400454D8
TUNSETVNETLE: Final = 0x400454DC
IFF_TAP: Final = 0x0002
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
IFF_PERSIST: Final = 0x0800
IFREQ: Final = struct.Struct("16sH22x")
# linux/sockios.h
SIOCGIFMTU: Final = 0x8921
IFREQ_INT: Final = struct.Struct("16si20x")
INT: Final = struct.Struct("i")

TUN_F: Final = {
    Offload.CSUM: 0x01,
    Offload.TSO4: 0x02,
    Offload.TSO6: 0x04,
    Offload.TSO_ECN: 0x08,
    # USO4 and USO6: the kernel takes both or none.
    Offload.USO: 0x20 | 0x40,
}

# What kernels have, the most first: USO since 6.2, TSO with ECN since 2.6.27, as all the rest.
LADDER: Final = (
    ALL_OFFLOADS,
    ALL_OFFLOADS & ~Offload.USO,
    Offload.CSUM | Offload.TSO4 | Offload.TSO6,
    Offload.CSUM,
)


def open_device() -> int:
    """A new descriptor, not yet of any interface; the caller closes it.

    Raises:
        OSError: no such device here, or no right to open it.
    """
    return os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def attach(fd: int, name: str) -> tuple[str, bool]:
    """Make a descriptor that of a TAP, which is made if there is none.

    Every frame then has `vknet.packet.virtio.VNET_HEADER_SIZE` bytes before it, little-endian, both
    ways.  The offloads are as the last user left them until `capabilities` or `set_offloads` is
    called.

    Args:
        fd: of `open_device`.
        name: may be a pattern such as ``tap%d``.

    Returns:
        Its name, and whether it will vanish with the descriptor.

    Raises:
        OSError: it is in use, or no TAP, or not this user's.
    """
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), flags))
    raw, flags = IFREQ.unpack(fcntl.ioctl(fd, TUNGETIFF, bytes(IFREQ.size)))
    fcntl.ioctl(fd, TUNSETVNETHDRSZ, INT.pack(VNET_HEADER_SIZE))
    fcntl.ioctl(fd, TUNSETVNETLE, INT.pack(1))
    return raw.rstrip(b"\0").decode(), not flags & IFF_PERSIST


def set_offloads(fd: int, offloads: Offload) -> None:
    """Have the kernel hand over frames with these things left undone, and no others.

    Raises:
        OSError: EINVAL where the kernel does not have them all; nothing has changed then.
    """
    bits = sum(bit for offload, bit in TUN_F.items() if offload in offloads.usable)
    fcntl.ioctl(fd, TUNSETOFFLOAD, bits)


def capabilities(fd: int) -> Offload:
    """The offloads that this kernel has for a TAP; all are off afterwards.

    A kernel that has one for frames that it hands over takes such frames as well.
    """
    found = NO_OFFLOADS
    for rung in LADDER:
        try:
            set_offloads(fd, rung)
        except OSError:
            continue
        found = rung
        break
    set_offloads(fd, NO_OFFLOADS)
    return found


def current_mtu(index: int) -> int | None:
    """The MTU that the interface of this number has now, in bytes; None if it has gone."""
    try:
        # Any socket takes it, and this kind a confined service may have.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            name = socket.if_indextoname(index).encode()
            answer = fcntl.ioctl(sock, SIOCGIFMTU, IFREQ_INT.pack(name, 0))
    except OSError:
        return None
    return int(IFREQ_INT.unpack(answer)[1])
