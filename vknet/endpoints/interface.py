"""Read the state and the addresses of an interface, in this process and without pyroute2.

An endpoint reads it once a second.  A child process for each reading (`vknet.endpoints.isolated`)
would cost more than an idle link.  sysfs is no alternative: it can show the interfaces of another
network namespace.  So this module sends one RTM_GETLINK of rtnetlink(7) and reads the attributes of
the answer, and RTM_GETADDR for addresses.  Changes are made by `vknet.endpoints.netlink`.

The functions block: the kernel answers under the RTNL lock, which another process may hold for
seconds.  Call them in a worker thread.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from vknet.spec import INTERFACE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = [
    "Interface",
    "attributes_of",
    "find_index",
    "ip_addresses",
    "messages_of",
    "name_of",
    "read_interface",
]

# linux/netlink.h
NLMSGHDR: Final = struct.Struct("=IHHII")
NLM_F_REQUEST: Final = 1
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLMSGERR: Final = struct.Struct("=i")
# linux/rtnetlink.h
IFINFOMSG: Final = struct.Struct("=BxHiII")
RTATTR: Final = struct.Struct("=HH")
RTATTR_TYPE_MASK: Final = 0x3FFF
RTM_NEWLINK: Final = 16
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22
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
# linux/if_addr.h
IFADDRMSG: Final = struct.Struct("=BBBBI")
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
# linux/if.h
IFF_UP: Final = 1

U32: Final = struct.Struct("=I")

# An answer about one interface without its statistics has about 1 KB.
ANSWER_BYTES: Final = 65536

# How often a list that changed while the kernel sent it is asked for again.
DUMP_TRIES: Final = 10


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


def ip_addresses(indices: Collection[int]) -> frozenset[IPv4Address | IPv6Address]:
    """Return the IP addresses of interfaces.  One that does not exist has none.

    Raises:
        OSError: the kernel does not say.
    """
    for _ in range(DUMP_TRIES):
        found = _list_addresses(indices)
        if found is not None:
            return found
    raise OSError(errno.EAGAIN, "the addresses change too fast")


def _list_addresses(indices: Collection[int]) -> frozenset[IPv4Address | IPv6Address] | None:
    """Ask once; return None if the list changed meanwhile."""
    found, is_whole = set(), True
    for kind, flags, body in _dump(RTM_GETADDR, IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        is_whole = is_whole and not flags & NLM_F_DUMP_INTR
        if kind != RTM_NEWADDR:
            continue
        family, _, _, _, index = IFADDRMSG.unpack_from(body)
        if index in indices and family in {socket.AF_INET, socket.AF_INET6}:
            attributes = dict(attributes_of(body[IFADDRMSG.size :]))
            # Where the two differ, the other one is the far end of a point-to-point link.
            found.add(ip_address(attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]))
    return frozenset(found) if is_whole else None


def _dump(kind: int, body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Ask for a list; yield the type, the flags and the body of each message, to the last one.

    Raises:
        OSError: the kernel refuses.
    """
    header = NLMSGHDR.pack(NLMSGHDR.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.bind((0, 0))
        sock.send(header + body)
        while True:
            for kind, flags, message in messages_of(sock.recv(ANSWER_BYTES)):
                if kind == NLMSG_ERROR:
                    number = -NLMSGERR.unpack_from(message)[0]
                    raise OSError(number, os.strerror(number))
                yield kind, flags, message
                if kind == NLMSG_DONE:
                    return


def messages_of(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the type, the flags and the body of each netlink message of one read."""
    at = 0
    while at + NLMSGHDR.size <= len(data):
        length, kind, flags, _, _ = NLMSGHDR.unpack_from(data, at)
        if length < NLMSGHDR.size:
            return
        yield kind, flags, data[at + NLMSGHDR.size : at + length]
        at += length + (-length % 4)


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
