"""The process at the other end of a connection (SO_PEERCRED of unix(7))."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Final, NamedTuple

import trio

from vknet.errors import escaped
from vknet.vknetd.status import Peer

__all__ = ["Credentials", "credentials_of", "exempt_users", "peer_of"]

# struct ucred of unix(7): pid, uid, gid.
UCRED: Final = struct.Struct("iII")

COMMAND_LIMIT: Final = 32


class Credentials(NamedTuple):
    """The IDs of a process when it connected; a pid of 0 is not visible in this pid namespace."""

    pid: int
    uid: int
    gid: int


def credentials_of(sock: socket.socket) -> Credentials:
    """Return the credentials of the process that has connected."""
    return Credentials(
        *UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    )


def exempt_users() -> set[int]:
    """Return the users without a limit of their own: root, and the user who runs vknetd."""
    return {0, os.geteuid()}


def peer_of(credentials: Credentials) -> Peer:
    """Return what the status tells of a client that connects now."""
    pid, uid, gid = credentials
    command = None
    if pid:
        try:
            raw = Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n")
            command = escaped(raw, COMMAND_LIMIT)
        except OSError:
            command = None
    return Peer(trio.current_time(), "client", pid=pid or None, uid=uid, gid=gid, command=command)
