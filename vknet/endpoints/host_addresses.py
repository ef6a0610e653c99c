"""The MAC address and the IP addresses of interfaces as they are now, without netlink.

It costs a few system calls, so it can be asked once a second.  Any socket answers the ioctls; a
service with RestrictAddressFamilies= may still open one of AF_UNIX.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["ip_addresses", "mac_of", "master_of"]

# linux/sockios.h
SIOCGIFCONF: Final = 0x8912
SIOCGIFHWADDR: Final = 0x8927

# struct ifreq: a name, and a union of which struct ifmap is the largest member.  Here it holds a
# sockaddr (the family, six bytes of address), or a sockaddr_in (the address at offset 4).
UNION_SIZE: Final = struct.calcsize("LLHBBB3x")
IFREQ_MAC: Final = struct.Struct(f"16sH6s{UNION_SIZE - 8}x")
IFREQ_IPV4: Final = struct.Struct(f"16s4x4s{UNION_SIZE - 8}x")
# struct ifconf: a size in bytes, and a pointer.
IFCONF: Final = struct.Struct("iP")
ADDRESSES_MAX: Final = 1024

IF_INET6: Final = Path("/proc/self/net/if_inet6")
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


def ip_addresses(names: Collection[str]) -> frozenset[IPv4Address | IPv6Address]:
    """Return the IP addresses of interfaces.  One that does not exist has none.

    Raises:
        OSError: the kernel does not say.
    """
    return frozenset(_ipv4(names)) | frozenset(_ipv6(names))


def _ipv4(names: Collection[str]) -> list[IPv4Address]:
    buffer = array.array("B", bytes(IFREQ_IPV4.size * ADDRESSES_MAX))
    address, _ = buffer.buffer_info()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, SIOCGIFCONF, IFCONF.pack(len(buffer), address))
    size, _ = IFCONF.unpack(answer)
    found = []
    for label, ip in IFREQ_IPV4.iter_unpack(buffer[:size].tobytes()):
        # A label may have a suffix: "eth0:1".
        if label.rstrip(b"\0").decode(errors="replace").partition(":")[0] in names:
            found.append(IPv4Address(ip))
    return found


def _ipv6(names: Collection[str]) -> list[IPv6Address]:
    found = []
    # Without IPv6 there is no such file.
    with suppress(FileNotFoundError):
        for line in IF_INET6.read_text().splitlines():
            address, *_, name = line.split()
            if name in names:
                found.append(IPv6Address(bytes.fromhex(address)))
    return found
