"""The system calls of /dev/net/tun, as in the kernel's Documentation/networking/tuntap.rst.

The code relies on these properties, seen on Linux 6.18:

* A persistent TAP keeps the header size, the byte order and the offloads that its last user set,
  and takes its flags from the next user.  So every user sets all of them; IFF_VNET_HDR may be set
  on a TAP that ``ip tuntap`` created without it.
* Offloads depend on each other.  TUNSETOFFLOAD fails with EINVAL if it does not support all of a
  combination, and then changes nothing.
* Frames that were queued before an offload was disabled keep their form.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import Final

from vknet.packet.virtio import ALL_OFFLOADS, NO_OFFLOADS, VNET_HEADER_SIZE, Offload

__all__ = [
    "TUN_DEVICE",
    "capabilities",
    "current_mtu",
    "open_device",
    "set_interface",
    "set_offloads",
]

TUN_DEVICE: Final = "/dev/net/tun"

# linux/if_tun.h
TUNSETIFF: Final = 0x400454CA
TUNGETIFF: Final = 0x800454D2
TUNSETOFFLOAD: Final = 0x400454D0
TUNSETVNETHDRSZ: Final = 0x400454D8
TUNSETVNETLE: Final = 0x400454DC
IFF_TAP: Final = 0x0002
IFF_MULTI_QUEUE: Final = 0x0100
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
    # TUN_F_USO4 and TUN_F_USO6, which the kernel takes only together.
    Offload.USO: 0x20 | 0x40,
}

# The sets of offloads that kernels support, the largest first: USO since 6.2, the others since
# 2.6.27.
SUPPORTED_SETS: Final = (
    ALL_OFFLOADS,
    ALL_OFFLOADS & ~Offload.USO,
    Offload.CSUM | Offload.TSO4 | Offload.TSO6,
    Offload.CSUM,
)


def open_device() -> int:
    """Open the device.

    Returns:
        A non-blocking descriptor without an interface, which the caller closes.

    Raises:
        OSError: the device does not exist, or this user may not open it.
    """
    return os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def set_interface(fd: int, name: str, *, multi_queue: bool = False) -> tuple[str, bool]:
    """Connect a descriptor to a TAP, creating the TAP if it does not exist (TUNSETIFF).

    From then on a little-endian offload header of `vknet.packet.virtio.VNET_HEADER_SIZE` bytes
    precedes every frame, read or written.  The offloads stay as the last user set them until
    `capabilities` or `set_offloads` is called.

    Args:
        fd: from `open_device`.
        name: the interface's name, or a pattern such as ``tap%d`` for the first unused number.
        multi_queue: the TAP was created with several queues; use one of them.

    Returns:
        The name, and whether the kernel deletes the interface when the descriptor is closed.

    Raises:
        OSError: EBUSY if the TAP is in use; EINVAL if the interface is not a TAP, or if
            `multi_queue` is wrong; EPERM if this user may not open or create it.
    """
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if multi_queue else 0)
    fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), flags))
    raw, flags = IFREQ.unpack(fcntl.ioctl(fd, TUNGETIFF, bytes(IFREQ.size)))
    fcntl.ioctl(fd, TUNSETVNETHDRSZ, INT.pack(VNET_HEADER_SIZE))
    fcntl.ioctl(fd, TUNSETVNETLE, INT.pack(1))
    return raw.rstrip(b"\0").decode(), not flags & IFF_PERSIST


def set_offloads(fd: int, offloads: Offload) -> None:
    """Enable these offloads for the frames that are read, and disable all others.

    Raises:
        OSError: EINVAL if the kernel does not support all of them; nothing has changed then.
    """
    bits = sum(bit for offload, bit in TUN_F.items() if offload in offloads.usable)
    fcntl.ioctl(fd, TUNSETOFFLOAD, bits)


def capabilities(fd: int) -> Offload:
    """Return the offloads that this kernel supports on a TAP, and disable all of them.

    A kernel that supports an offload for frames that are read accepts it in frames that are
    written.
    """
    supported = NO_OFFLOADS
    for offloads in SUPPORTED_SETS:
        try:
            set_offloads(fd, offloads)
        except OSError:
            continue
        supported = offloads
        break
    set_offloads(fd, NO_OFFLOADS)
    return supported


def current_mtu(index: int) -> int | None:
    """Return the current MTU of the interface with this index, in bytes; None if it is gone."""
    try:
        # Any socket does.  A service with RestrictAddressFamilies= may still open this one.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            name = socket.if_indextoname(index).encode()
            answer = fcntl.ioctl(sock, SIOCGIFMTU, IFREQ_INT.pack(name, 0))
    except OSError:
        return None
    return int(IFREQ_INT.unpack(answer)[1])
