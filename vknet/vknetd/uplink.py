"""The uplink of a vknetd: the addresses of the host there, and the guard of secure mode."""

from __future__ import annotations

import errno
import logging
import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from vknet.endpoints import netlink
from vknet.endpoints.interface import find_index, ip_addresses, read_interface
from vknet.endpoints.threads import run_in_thread
from vknet.errors import SetupError
from vknet.link.backoff import Backoff, Failure
from vknet.packet.ethernet import NO_MAC, is_multicast
from vknet.switch.filter import SourceFilter
from vknet.switch.guard import Guard

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from vknet.endpoints.tap import TapEndpoint
    from vknet.vknetd.settings import Interface, VknetdSettings

__all__ = ["HostAddresses", "UplinkAddresses", "look_up", "make_guard", "set_up"]

log = logging.getLogger(__name__)

# The pause after the first failed attempt to set the addresses on another bridge; it grows.
FIRST_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class HostAddresses:
    """What the host has on the uplink, which no client may use.

    Attributes:
        tap_mac: the MAC address of the TAP.
        macs: the MAC addresses of the TAP and of its bridge.
        addresses: the IP addresses of both.
    """

    tap_mac: bytes
    macs: frozenset[bytes]
    addresses: frozenset[IPv4Address | IPv6Address]


def make_guard(settings: VknetdSettings) -> Guard | None:
    """Return the guard of secure mode; None in plain mode."""
    if not settings.secure:
        return None
    gateways, roaming = settings.gateways, settings.roaming
    source_filter = SourceFilter(
        [interface.network for interface in settings.interfaces],
        tap_mac=NO_MAC,
        protocols=settings.protocols,
        gateways=[station for station in gateways if not isinstance(station, bytes)],
        roaming=[station for station in roaming if not isinstance(station, bytes)],
    )
    return Guard(
        source_filter,
        gateways=[station for station in gateways if isinstance(station, bytes)],
        roaming=[station for station in roaming if isinstance(station, bytes)],
    )


def set_up(settings: VknetdSettings, tap: TapEndpoint) -> HostAddresses:
    """Set the addresses on the TAP, or on its bridge, and look up all that the host has there.

    It blocks.  The host receives no packets through a port of a bridge, only through the bridge
    itself, so with a bridge the addresses are on the bridge.

    Raises:
        SetupError: the addresses cannot be set, or the TAP is not in its bridge.
    """
    wanted = [interface for interface in settings.interfaces if not _is_prefix_only(interface)]
    if wanted and tap.bridge is None and tap.bridge_index is not None:
        raise SetupError(
            f"{tap.name} is a port of a bridge, so an address on it has no effect; name the bridge"
            f" with -b, or take {tap.name} out of it: ip link set {tap.name} nomaster"
        )
    interface, elsewhere = netlink.set_up_addresses(tap.index, [] if tap.bridge else wanted)
    if tap.bridge is not None:
        try:
            index = socket.if_nametoindex(tap.bridge)
        except OSError as exc:
            raise SetupError(f"the bridge {tap.bridge} was deleted") from exc
        if interface.master != index:
            raise SetupError(
                f"{tap.name} is not in {tap.bridge}: another interface has that name, or"
                f" {tap.name} was moved"
            )
        _, elsewhere = netlink.set_up_addresses(index, wanted)
    for address, other in elsewhere.items():
        log.warning(
            "%s is also an address of %s; packets for it reach only one of the two networks:"
            " choose another one for vknetd, or take it off %s",
            address,
            other,
            other,
        )
    try:
        return look_up(tap)
    except OSError as exc:
        raise SetupError(f"cannot read the addresses of {tap.name}: {exc.strerror}") from exc


class UplinkAddresses:
    """Sets the addresses again whenever the TAP is in another bridge.

    Args:
        settings: which addresses.
        tap: the uplink; `set_up` has set its addresses.
    """

    def __init__(self, settings: VknetdSettings, tap: TapEndpoint) -> None:
        self._settings = settings
        self._tap = tap
        self._done = self._tried = tap.bridge_index
        self._backoff = Backoff(FIRST_PAUSE_S)
        self._due = 0.0
        self._logged = ""

    async def maintain(self) -> None:
        """Set the addresses if the bridge is another one; call it about once a second."""
        index = self._tap.bridge_index
        if index != self._tried:
            self._tried = index
            self._backoff.reset()
            self._due = 0.0
        if index == self._done or trio.current_time() < self._due:
            return
        try:
            await run_in_thread(partial(set_up, self._settings, self._tap))
        except SetupError as exc:
            self._due = trio.current_time() + self._backoff.next_delay(Failure.LOCAL)
            if str(exc) != self._logged:
                self._logged = str(exc)
                log.warning("%s", exc)
        else:
            self._done = index
            self._logged = ""


def look_up(tap: TapEndpoint) -> HostAddresses:
    """Return what the host has on the uplink now.  It takes a few system calls.

    A TAP that another program has put in a bridge counts as one in that bridge.

    Raises:
        OSError: the TAP is gone.
    """
    state = read_interface(tap.index)
    if state is None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    macs, indices = {state.mac}, {state.index}
    for index in (state.master, None if tap.bridge is None else find_index(tap.bridge)):
        bridge = None if index is None else read_interface(index)
        if bridge is not None:
            macs.add(bridge.mac)
            indices.add(bridge.index)
    # A bridge that has lost its last port may have no MAC address.
    stations = frozenset(mac for mac in macs if any(mac) and not is_multicast(mac))
    return HostAddresses(state.mac, stations, ip_addresses(indices))


def _is_prefix_only(interface: Interface) -> bool:
    """Whether it is the address of a network (198.18.5.0/24), and not that of a host."""
    network = interface.network
    return interface.ip == network.network_address and network.prefixlen < network.max_prefixlen - 1
