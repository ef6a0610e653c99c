"""The settings of a vknetd.  Pure, and fast to import: the command line needs it before trio."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, Final, TypeAlias

from vknet.packet.ethernet import format_mac

if TYPE_CHECKING:
    from vknet.spec import TapSpec

__all__ = [
    "CONTROL_SUFFIX",
    "DEFAULT_CLIENTS",
    "DEFAULT_GROUP",
    "DEFAULT_MODE",
    "DEFAULT_PIDFILE",
    "Interface",
    "Station",
    "VknetdSettings",
    "station_text",
]

Interface: TypeAlias = IPv4Interface | IPv6Interface

Station: TypeAlias = bytes | IPv4Address | IPv6Address
"""An address of a station: of six bytes for a MAC address."""

CONTROL_SUFFIX: Final = ".ctl"
"""The path of the control socket is that of the first socket with this suffix."""

DEFAULT_GROUP: Final = "vknet"
DEFAULT_MODE: Final = 0o660
DEFAULT_CLIENTS: Final = 256

DEFAULT_PIDFILE: Final = "/var/run/vknetd.pid"
"""The pid file of a daemon in the background whose socket is the default one, as in 2008."""


@dataclass(frozen=True, slots=True)
class VknetdSettings:
    """Which switch to run.

    Attributes:
        path: that of the socket, at most 103 bytes, so that `CONTROL_SUFFIX` fits behind it.
        tap: the uplink; None for an isolated switch.
        bridge: the bridge that the TAP joins; None for none.
        interfaces: addresses with their prefixes.  One that is its network's own address stands for
            the prefix alone.
        secure: only frames from within the prefixes may leave through the uplink.
        protocols: the IP protocols that may leave besides the default ones.
        gateways: addresses that are never a client's.
        roaming: addresses that stay a client's even if they are seen outside.
        mode: that of the socket, as for chmod(2).
        group: the group that may connect; None for `DEFAULT_GROUP`, if it exists.
        mtu: that of the TAP in bytes; None leaves it unchanged.
        age: seconds until a MAC address that was not seen again is forgotten.
        clients: the maximum number of clients.
    """

    path: str
    tap: TapSpec | None
    bridge: str | None
    interfaces: tuple[Interface, ...]
    secure: bool
    protocols: frozenset[int]
    gateways: tuple[Station, ...]
    roaming: tuple[Station, ...]
    mode: int
    group: str | None
    mtu: int | None
    age: float
    clients: int


def station_text(station: Station) -> str:
    """Return an address of a station as text."""
    return format_mac(station) if isinstance(station, bytes) else str(station)
