"""The MAC address and the bridge of an interface as they are now, without netlink.

It costs a few system calls, so it can be asked once a second.  Any socket answers the ioctl; a
service with RestrictAddressFamilies= may still open one of AF_UNIX.  The IP addresses are in
`vknet.endpoints.interface`.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from pathlib import Path
from typing import Final

__all__ = ["mac_of", "master_of"]

# linux/sockios.h
SIOCGIFHWADDR: Final = 0x8927

# struct ifreq: a name, and a union of which struct ifmap is the largest member.  Here it holds a
# sockaddr (the family, six bytes of address).
UNION_SIZE: Final = struct.calcsize("LLHBBB3x")
IFREQ_MAC: Final = struct.Struct(f"16sH6s{UNION_SIZE - 8}x")

INTERFACES: Final = Path("/sys/class/net")


def master_of(name: str, index: int) -> str | None:
    """Return the name of the bridge of an interface; None if it is no port, or sysfs has no answer.

    Args:
        name: its name.
        index: its index.  A sysfs of another network namespace has other interfaces.
    """
    try:
        if int((INTERFACES / name / "ifindex").read_text()) != index:
            return None
        return (INTERFACES / name / "master").readlink().name
    except (OSError, ValueError):
        return None


def mac_of(name: str) -> bytes:
    """Return the MAC address of an interface.

    Raises:
        OSError: there is no such interface.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, SIOCGIFHWADDR, IFREQ_MAC.pack(name.encode(), 0, b""))
    mac: bytes = IFREQ_MAC.unpack(answer)[2]
    return mac
