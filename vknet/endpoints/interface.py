"""Read the state of an interface, in this process and without pyroute2.

An endpoint reads it once a second.  A child process for each reading (`vknet.endpoints.isolated`)
would cost more than an idle link.  sysfs is no alternative: it can show the interfaces of another
network namespace.  So this module sends one RTM_GETLINK of rtnetlink(7) and reads the attributes of
the answer.  Changes are made by `vknet.endpoints.netlink`.

The functions block: the kernel answers under the RTNL lock, which another process may hold for
seconds.  Call them in a worker thread.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vknet.spec import INTERFACE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Interface", "attributes_of", "find_index", "name_of", "read_interface"]

# linux/netlink.h
NLMSGHDR: Final = struct.Struct("=IHHII")
NLM_F_REQUEST: Final = 1
# linux/rtnetlink.h
IFINFOMSG: Final = struct.Struct("=BxHiII")
RTATTR: Final = struct.Struct("=HH")
RTATTR_TYPE_MASK: Final = 0x3FFF
RTM_NEWLINK: Final = 16
RTM_GETLINK: Final = 18
# linux/if_link.h
IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_INFO_KIND: Final = 1
IFLA_EXT_MASK: Final = 29
IFLA_ALT_IFNAME: Final = 53
RTEXT_FILTER_SKIP_STATS: Final = 8
# linux/if.h
IFF_UP: Final = 1

U32: Final = struct.Struct("=I")

# An answer about one interface without its statistics has about 1 KB.
ANSWER_BYTES: Final = 65536


@dataclass(frozen=True, slots=True)
class Interface:
    """The state of an interface.

    Attributes:
        index: unique in its network namespace while the interface exists.
        name: its name.
        kind: such as ``bridge``, ``tun`` or ``veth``; None for hardware and the loopback.
        mtu: in bytes.
        mac: its MAC address, six bytes.
        is_up: whether it is administratively up.
        master: the index of its bridge; None if it is not a port.
    """

    index: int
    name: str
    kind: str | None
    mtu: int
    mac: bytes
    is_up: bool
    master: int | None


def read_interface(index: int) -> Interface | None:
    """Return the interface with this index; None if there is none or netlink cannot be used."""
    answer = _ask(index)
    if answer is None:
        return None
    _, _, index, flags, _ = IFINFOMSG.unpack_from(answer)
    attributes = dict(attributes_of(answer[IFINFOMSG.size :]))
    kind = dict(attributes_of(attributes.get(IFLA_LINKINFO, b""))).get(IFLA_INFO_KIND)
    master = attributes.get(IFLA_MASTER)
    return Interface(
        index=index,
        name=_text(attributes[IFLA_IFNAME]),
        kind=None if kind is None else _text(kind),
        mtu=U32.unpack(attributes[IFLA_MTU])[0],
        mac=attributes.get(IFLA_ADDRESS, b""),
        is_up=bool(flags & IFF_UP),
        master=None if master is None else U32.unpack(master)[0],
    )


def find_index(name: str) -> int | None:
    """Return the index of the interface with this name or alternative name; None if there is none.

    See ``altname`` in ip-link(8).
    """
    # The ioctl behind if_nametoindex knows alternative names, too, but not their full length.
    if len(name.encode()) <= INTERFACE_LIMIT:
        try:
            return socket.if_nametoindex(name)
        except OSError:
            return None
    answer = _ask(0, _attribute(IFLA_ALT_IFNAME, name.encode() + b"\0"))
    return None if answer is None else int(IFINFOMSG.unpack_from(answer)[2])


def name_of(index: int) -> str | None:
    """Return the current name of the interface with this index; None if there is none."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None


def attributes_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the value of each attribute."""
    at = 0
    while at + RTATTR.size <= len(data):
        length, kind = RTATTR.unpack_from(data, at)
        if length < RTATTR.size:
            return
        yield kind & RTATTR_TYPE_MASK, data[at + RTATTR.size : at + length]
        at += length + (-length % 4)


def _ask(index: int, attributes: bytes = b"") -> bytes | None:
    """Ask for one interface; return the body of the answer, or None if there is no such."""
    body = IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    body += _attribute(IFLA_EXT_MASK, U32.pack(RTEXT_FILTER_SKIP_STATS)) + attributes
    header = NLMSGHDR.pack(NLMSGHDR.size + len(body), RTM_GETLINK, NLM_F_REQUEST, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.bind((0, 0))
            sock.send(header + body)
            answer = sock.recv(ANSWER_BYTES)
    except OSError:
        return None
    length, kind, _, _, _ = NLMSGHDR.unpack_from(answer)
    return answer[NLMSGHDR.size : length] if kind == RTM_NEWLINK else None


def _attribute(kind: int, value: bytes) -> bytes:
    """Encode an attribute; its value is padded to four bytes, which its length does not count."""
    return RTATTR.pack(RTATTR.size + len(value), kind) + value + bytes(-len(value) % 4)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="surrogateescape")
