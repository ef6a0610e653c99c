"""The learning Ethernet switch: any endpoints for ports, a MAC table, a filter for one of them."""

from __future__ import annotations

from vknet.switch.filter import SourceFilter
from vknet.switch.switch import Port, Switch
from vknet.switch.table import MacTable

__all__ = ["MacTable", "Port", "SourceFilter", "Switch"]
