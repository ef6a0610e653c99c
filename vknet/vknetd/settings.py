"""The settings of a vknetd.  Pure, and fast to import: the command line needs it before trio."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from vknet.spec import TapSpec

__all__ = [
    "CONTROL_SUFFIX",
    "DEFAULT_CLIENTS",
    "DEFAULT_GROUP",
    "DEFAULT_MODE",
    "DEFAULT_PIDFILE",
    "Interface",
    "VknetdSettings",
]

Interface: TypeAlias = IPv4Interface | IPv6Interface

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
    mode: int
    group: str | None
    mtu: int | None
    age: float
    clients: int
