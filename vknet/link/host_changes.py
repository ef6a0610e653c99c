"""Changes of this host after which an attempt to connect may succeed at once.

* An interface, an address or a route changed: rtnetlink(7) sends a message to the groups below.
* The host was suspended: CLOCK_BOOTTIME went on, CLOCK_MONOTONIC did not.
* The process was stopped, and SIGCONT resumed it: a short sleep took much longer.

Messages about TAPs do not count, nor do those about the state of a bridge that has a TAP: an
attempt causes them itself.  They go on for a second after it, and with STP for half a minute.  The
same is true of vknet's own host routes.

The few fields are read here.  pyroute2 would need a process of its own (`vknet.endpoints.netlink`)
for as long as it watches.
"""

from __future__ import annotations

import logging
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from vknet.endpoints.interface import (
    IFINFOMSG,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    U32,
    attributes_of,
    messages_of,
    name_of,
)
from vknet.endpoints.routes import ROUTE_PROTOCOL

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["HostChanges"]

log = logging.getLogger(__name__)

# linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR and
# RTMGRP_IPV6_ROUTE.
GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400

MESSAGE_BYTES: Final = 65536

# The most reads in a row: more than the socket holds with its usual buffer of 208 KiB.
READS_MAX: Final = 1024

# linux/rtnetlink.h: RTM_NEWLINK and RTM_DELLINK, RTM_NEWADDR and RTM_DELADDR, RTM_NEWROUTE and
# RTM_DELROUTE
RTM_DELLINK: Final = 17
LINK_MESSAGES: Final = (16, RTM_DELLINK)
ADDRESS_MESSAGES: Final = (20, 21)
ROUTE_MESSAGES: Final = (24, 25)
# The scope and the interface of struct ifaddrmsg.
IFADDRMSG: Final = struct.Struct("=xxxBI")
# The table and the protocol of struct rtmsg.
RTMSG: Final = struct.Struct("=xxxxBBxxxxxx")
RT_SCOPE_LINK: Final = 253
RT_TABLE_LOCAL: Final = 255
RTA_DST: Final = 1
RTA_OIF: Final = 4
# The networks fe80::/10 and ff00::/8, by their first byte.
IPV6_BYTES: Final = 16
IPV6_LINK_LOCAL: Final = (0xFE, 0xFF)

# linux/if_arp.h: ARPHRD_ETHER, which a TAP has and a TUN device has not.
ETHER: Final = 1
# linux/if_tun.h
IFF_TAP: Final = 2

# The interval at which the clocks are read during a wait.
TICK_S: Final = 1.0

# A jump of the clocks by more than this is a suspension.  A busy machine is late by less.
JUMP_S: Final = 5.0


class HostChanges:
    """Notices changes of this host; a context manager that owns a netlink socket.

    Without a netlink socket, only suspensions are noticed.

    Args:
        taps: whether changes of TAPs, and of vknet's own host routes, count as well.
    """

    def __init__(self, *, taps: bool = False) -> None:
        self._all_interfaces = taps
        # The indices of interfaces that exist.
        self._taps: set[int] = set()
        self._others: set[int] = set()
        self._bridges: set[int] = set()
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
                socket.NETLINK_ROUTE,
            )
            self._socket.bind((0, GROUPS))
        except OSError as exc:
            log.debug("changes of the network are not noticed: %s", exc.strerror)
            self.close()
        self._asleep = suspended_s()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; a second call has no effect."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def clear(self) -> None:
        """Forget the changes so far."""
        self._drain()
        self._asleep = suspended_s()

    async def wait(self) -> str:
        """Wait for a change since the last call of `clear`, or of this method.

        Returns:
            What happened, for the log.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if suspended_s() - self._asleep > JUMP_S:
                self._asleep = suspended_s()
                return "this host was suspended"
            if self._drain():
                return "the network of this host changed"
            before = time.monotonic()
            with trio.move_on_after(TICK_S):
                if self._socket is None:
                    await trio.sleep_forever()
                else:
                    await trio.lowlevel.wait_readable(self._socket)
            if time.monotonic() - before > TICK_S + JUMP_S:
                return "vknet was stopped and resumed"

    def _drain(self) -> bool:
        """Read what has arrived; return whether any of it counts."""
        counts = False
        for _ in range(READS_MAX):
            if self._socket is None:
                break
            try:
                data = self._socket.recv(MESSAGE_BYTES)
            except BlockingIOError:
                break
            except OSError as exc:
                # ENOBUFS: more messages than the socket holds.  The error is reported once.
                log.debug("netlink: %s", exc.strerror)
                counts = True
            else:
                # Each message is looked at: it may say that an interface is a TAP.
                for kind, _, body in messages_of(data):
                    counts |= self._counts(kind, body)
        return counts

    def _counts(self, kind: int, body: bytes) -> bool:
        """Whether a message is about something that an attempt does not cause itself."""
        try:
            if kind in LINK_MESSAGES:
                return self._link_counts(kind, body)
            if kind in ADDRESS_MESSAGES:
                scope, index = IFADDRMSG.unpack_from(body)
                is_local = scope == RT_SCOPE_LINK
            elif kind in ROUTE_MESSAGES:
                table, protocol = RTMSG.unpack_from(body)
                if protocol == ROUTE_PROTOCOL:
                    return self._all_interfaces
                attributes = dict(attributes_of(body[RTMSG.size :]))
                if RTA_OIF not in attributes:
                    return True
                index = U32.unpack(attributes[RTA_OIF])[0]
                target = attributes.get(RTA_DST, b"")
                is_local = table == RT_TABLE_LOCAL or (
                    len(target) == IPV6_BYTES and target[0] in IPV6_LINK_LOCAL
                )
            else:
                return True
        except struct.error:
            return True
        return not self._is_own(index) and not (is_local and index in self._bridges)

    def _link_counts(self, kind: int, body: bytes) -> bool:
        family, type_, index, _, _ = IFINFOMSG.unpack_from(body)
        attributes = dict(attributes_of(body[IFINFOMSG.size :]))
        info = dict(attributes_of(attributes.get(IFLA_LINKINFO, b"")))
        if type_ == ETHER and info.get(IFLA_INFO_KIND, b"").rstrip(b"\0") == b"tun":
            self._taps.add(index)
        is_own = self._is_own(index)
        counts = not is_own and index not in self._bridges
        if is_own and IFLA_MASTER in attributes:
            self._bridges.add(U32.unpack(attributes[IFLA_MASTER])[0])
        if kind == RTM_DELLINK and family == socket.AF_UNSPEC:
            # It is the last message about the interface.  A port that leaves its bridge has one of
            # AF_BRIDGE.
            for indices in (self._taps, self._others, self._bridges):
                indices.discard(index)
        return counts

    def _is_own(self, index: int) -> bool:
        """Whether an interface is a TAP whose changes do not count."""
        if self._all_interfaces:
            return False
        if index not in self._taps and index not in self._others:
            # A TAP that was there before this object.
            (self._taps if _is_tap(index) else self._others).add(index)
        return index in self._taps


def _is_tap(index: int) -> bool:
    name = name_of(index)
    try:
        flags = int(Path(f"/sys/class/net/{name}/tun_flags").read_text(), 16)
    except (OSError, ValueError):
        return False
    return bool(flags & IFF_TAP)


def suspended_s() -> float:
    """Return the seconds for which this host was suspended since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
