"""Open the endpoint that a spec names."""

from __future__ import annotations

import os
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
    """Open the endpoint that a spec names.

    Args:
        spec: ``auto``, ``tapN``, ``/dev/tapN``, ``tap:NAME``, or the path of a vknetd socket,
            in which ``~`` is the home of this user.
        bridge: the bridge that the TAP joins; it is created if it does not exist.
        mtu: the TAP's MTU in bytes; None leaves it unchanged.  A socket has no MTU of its own; the
            peer is told this one.

    Returns:
        The endpoint, which the caller closes.

    Raises:
        UsageError: the spec is not valid, or it is a socket and a bridge was given.
        SetupError: the endpoint cannot be opened; the message gives the cause and the remedy.
    """
    if isinstance(spec, str):
        spec = parse_spec(spec)
    if isinstance(spec, SocketSpec):
        if bridge is not None:
            raise UsageError(f"{spec.path} is a socket; only a TAP can be in a bridge")
        return await open_seqpacket(_expanded(spec.path), mtu)
    if sys.platform != "linux":
        raise SetupError(f"TAP interfaces are supported on Linux only, not on {sys.platform}")
    return await open_tap(spec.name, bridge=bridge, mtu=mtu, device=spec.device)


def _expanded(path: str) -> str:
    """Replace a leading ``~`` or ``~user`` by the home directory."""
    expanded = os.path.expanduser(path)  # noqa: PTH111 - Path would drop a leading "./"
    if expanded.startswith("~"):
        raise SetupError(f"{path}: no such user, or no home directory; for a file write ./{path}")
    return expanded
