"""Endpoints: the sources and sinks of Ethernet frames, one module for each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vknet._lazy import exports

if TYPE_CHECKING:
    from vknet.endpoints.base import Endpoint
    from vknet.endpoints.factory import open_endpoint
    from vknet.endpoints.memory import MemoryEndpoint, memory_endpoint_pair
    from vknet.endpoints.seqpacket import SeqpacketEndpoint
    from vknet.endpoints.tap import TapEndpoint

__all__ = [
    "Endpoint",
    "MemoryEndpoint",
    "SeqpacketEndpoint",
    "TapEndpoint",
    "memory_endpoint_pair",
    "open_endpoint",
]

_HOMES: Final = {
    "vknet.endpoints.base": ("Endpoint",),
    "vknet.endpoints.memory": ("MemoryEndpoint", "memory_endpoint_pair"),
    "vknet.endpoints.factory": ("open_endpoint",),
    "vknet.endpoints.seqpacket": ("SeqpacketEndpoint",),
    "vknet.endpoints.tap": ("TapEndpoint",),
}

if not TYPE_CHECKING:
    __getattr__ = exports(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
