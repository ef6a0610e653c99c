"""From a spec to the endpoint it stands for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vknet.endpoints.seqpacket import open_seqpacket
from vknet.endpoints.tap import open_tap
from vknet.errors import SetupError, UsageError
from vknet.spec import SocketSpec, Spec, parse_spec

if TYPE_CHECKING:
    from vknet.endpoints.base import Endpoint

__all__ = ["open_endpoint"]


async def open_endpoint(
    spec: str | Spec, *, bridge: str | None = None, mtu: int | None = None
) -> Endpoint:
    """Open what a spec stands for.

    Args:
        spec: ``auto``, ``tapN``, ``/dev/tapN``, ``tap:NAME``, or the path of a vknetd socket.
        bridge: the bridge a TAP joins; made if there is none.
        mtu: the TAP's MTU in bytes; None leaves it as it is.  A socket has none of its own, but
            tells the other side this one.

    Returns:
        An endpoint; the caller closes it.

    Raises:
        UsageError: the spec has no meaning, or it is a socket and a bridge was given.
        SetupError: it cannot be opened, and why.
    """
    if isinstance(spec, str):
        spec = parse_spec(spec)
    if isinstance(spec, SocketSpec):
        if bridge is not None:
            raise UsageError(f"{spec.path} is a socket, and only a TAP can be in a bridge")
        return await open_seqpacket(spec.path, mtu)
    if sys.platform != "linux":
        raise SetupError(f"TAP interfaces are supported on Linux only, not on {sys.platform}")
    return await open_tap(spec.name, bridge=bridge, mtu=mtu)
