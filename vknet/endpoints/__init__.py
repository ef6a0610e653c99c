"""Endpoints: where frames enter and leave.  One file a kind."""

from __future__ import annotations

from vknet.endpoints.base import Drop, Endpoint
from vknet.endpoints.memory import MemoryEndpoint, memory_endpoint_pair
from vknet.endpoints.opening import open_endpoint
from vknet.endpoints.seqpacket import SeqpacketEndpoint
from vknet.endpoints.tap import TapEndpoint

__all__ = [
    "Drop",
    "Endpoint",
    "MemoryEndpoint",
    "SeqpacketEndpoint",
    "TapEndpoint",
    "memory_endpoint_pair",
    "open_endpoint",
]
