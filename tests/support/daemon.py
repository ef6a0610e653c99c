"""A vknetd in this process, without a TAP, whose clients are sockets of this process."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from tests.support.links import running
from vknet.vknetd.daemon import Daemon
from vknet.vknetd.settings import VknetdSettings
from vknet.vknetd.sockets import listen_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["connect", "next_frame", "serving", "settings_of"]


def settings_of(path: Path, clients: int = 256) -> VknetdSettings:
    """The settings of an isolated switch."""
    return VknetdSettings(
        path=str(path),
        tap=None,
        bridge=None,
        interfaces=(),
        secure=False,
        protocols=frozenset(),
        gateways=(),
        roaming=(),
        mode=0o660,
        group=None,
        mtu=None,
        age=300.0,
        clients=clients,
    )


@asynccontextmanager
async def serving(path: Path, clients: int = 256) -> AsyncIterator[Daemon]:
    """Run a daemon that listens on this path."""
    ready = trio.Event()

    def set_ready(_: str) -> None:
        ready.set()

    with listen_at(str(path), 0o660, None) as listeners:
        daemon = Daemon(settings_of(path, clients), listeners)
        async with running() as nursery:
            nursery.start_soon(daemon.run, set_ready)
            await ready.wait()
            yield daemon


def connect(path: Path) -> socket.socket:
    """Connect a client, which the caller closes."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    sock.connect(str(path))
    return sock


async def next_frame(sock: socket.socket) -> bytes:
    """Wait for a frame; b"" when the switch has disconnected."""
    with trio.fail_after(60):
        await trio.lowlevel.wait_readable(sock)
        return sock.recv(70_000)
