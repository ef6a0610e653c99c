"""The two sockets on which a vknetd listens: unix(7), and systemd's socket activation.

    PATH        SOCK_SEQPACKET, one frame per message     mode and group as requested
    PATH.ctl    SOCK_STREAM, the status as JSON           mode 0660, the same group

A path that no longer names its socket can be made to name a new one (`Listener.renew`).
"""

from __future__ import annotations

import grp
import logging
import os
import socket
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vknet.errors import SetupError, escaped
from vknet.vknetd.binding import Access, identity, listen, locked, remove_stale
from vknet.vknetd.settings import CONTROL_SUFFIX, DEFAULT_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Listener", "Listeners", "adopt", "listen_at"]

log = logging.getLogger(__name__)

# Owner and group, whatever the mode of the first socket is.
CONTROL_MODE: Final = 0o660


class Listener:
    """A listening, non-blocking socket, and its path.

    Attributes:
        path: where clients find it.
        sock: the socket; `renew` replaces it.
    """

    def __init__(self, path: str, sock: socket.socket, access: Access | None = None) -> None:
        """Take over a socket.  Without `access`, another program owns the path."""
        self.path = path
        self.sock = sock
        self._access = access
        self._identity = identity(path)

    @property
    def is_reachable(self) -> bool:
        """Whether the path still names this socket; not checked if another program owns it."""
        if self._access is None:
            return True
        # None, if the path went before this could look at it.
        return self._identity is not None and identity(self.path) == self._identity

    def renew(self) -> socket.socket:
        """Listen again at a path that no longer names this socket.  It blocks.

        Returns:
            The old socket, which the caller closes.

        Raises:
            SetupError: another file is at the path, or the socket cannot be created.
        """
        if self._access is None:
            raise AssertionError("another program owns the path")
        with locked(self.path):
            new = listen(self.path, self.sock.type, self._access)
        self._identity = identity(self.path)
        old, self.sock = self.sock, new
        # From here on no error may escape: the caller must get the old socket.
        gid = self._access.gid
        with suppress(OSError):
            if gid is not None and Path(self.path).lstat().st_gid != gid:
                # vknetd has dropped the privilege, or never had it.
                log.warning(
                    "%s no longer belongs to the group with ID %d; restart vknetd", self.path, gid
                )
        return old

    def close(self) -> None:
        """Close the socket; remove its path, unless another file or another program has it."""
        ours = self._access is not None and self._identity is not None
        if ours and identity(self.path) == self._identity:
            with suppress(OSError):
                Path(self.path).unlink()
        self.sock.close()


@dataclass(frozen=True, slots=True)
class Listeners:
    """The two sockets.

    Attributes:
        frames: the SOCK_SEQPACKET socket for clients.
        control: the SOCK_STREAM socket for the status.
    """

    frames: Listener
    control: Listener

    @property
    def path(self) -> str:
        """The path of the first socket."""
        return self.frames.path


@contextmanager
def listen_at(path: str, mode: int, group: str | None) -> Iterator[Listeners]:
    """Listen on a path and on its control socket.  Both are closed and removed in the end.

    Args:
        path: that of the first socket.  A stale socket there is replaced.
        mode: that of the first socket, as for chmod(2).
        group: the group that may connect; None for `DEFAULT_GROUP`, if it exists.

    Raises:
        SetupError: a process listens there, another kind of file is there, or permission is denied.
    """
    with ExitStack() as stack:
        with locked(path):
            # A missing group is reported after a path that is in use.
            remove_stale(path, socket.SOCK_SEQPACKET)
            gid = _group_id(group)
            frames = _listener(path, socket.SOCK_SEQPACKET, Access(mode, gid, group))
            stack.callback(frames.close)
            access = Access(CONTROL_MODE, gid, group)
            control = _listener(path + CONTROL_SUFFIX, socket.SOCK_STREAM, access)
            stack.callback(control.close)
        yield Listeners(frames, control)


@contextmanager
def adopt(sockets: Sequence[socket.socket]) -> Iterator[Listeners]:
    """Take over the sockets of a service manager, which owns their paths.

    Args:
        sockets: one SOCK_SEQPACKET socket, and at most one SOCK_STREAM socket as the control
            socket.  Without the latter a control socket is created, and removed in the end.  All
            sockets are closed in the end; the paths of these stay.

    Raises:
        SetupError: these are other sockets, or the control socket cannot be created.
    """
    with ExitStack() as stack:
        for sock in sockets:
            stack.callback(sock.close)
            sock.setblocking(False)
        by_kind = {sock.type: sock for sock in sockets if sock.family == socket.AF_UNIX}
        frames = by_kind.get(socket.SOCK_SEQPACKET)
        if frames is None or len(by_kind) != len(sockets) or not all(map(_is_usable, sockets)):
            raise SetupError(
                "the service manager must pass one socket of ListenSequentialPacket= and at most"
                " one of ListenStream=, both with a path, and with Accept=no"
            )
        path = os.fsdecode(frames.getsockname())
        passed = by_kind.get(socket.SOCK_STREAM)
        if passed is not None and passed.getsockname() != path + CONTROL_SUFFIX:
            raise SetupError(
                f"ListenStream= must be {path}{CONTROL_SUFFIX}, the path of the control socket"
            )
        if passed is None:
            owner = Path(path).stat()
            access = Access(CONTROL_MODE, owner.st_gid, None, owner.st_uid)
            with locked(path):
                control = _listener(path + CONTROL_SUFFIX, socket.SOCK_STREAM, access)
            stack.callback(control.close)
        else:
            control = Listener(path + CONTROL_SUFFIX, passed)
        yield Listeners(Listener(path, frames), control)


def _is_usable(sock: socket.socket) -> bool:
    """Whether a socket listens, and has a path."""
    # The name of an abstract socket is bytes, and that of an unbound one is empty.
    has_path = isinstance(sock.getsockname(), str) and sock.getsockname()
    return bool(has_path and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _group_id(name: str | None) -> int | None:
    """Return the ID of the group; None if the socket keeps the group of its owner.

    Raises:
        SetupError: a group that was asked for does not exist.
    """
    wanted = DEFAULT_GROUP if name is None else name
    try:
        return grp.getgrnam(wanted).gr_gid
    except KeyError:
        pass
    if name is not None:
        raise SetupError(
            f"there is no group {escaped(name)}; as root: groupadd --system {escaped(name)}"
        )
    if os.geteuid() == 0:
        log.warning(
            "there is no group %s, so only root and its group may connect; for others:"
            " groupadd --system %s && usermod -aG %s USER;"
            " then restart vknetd, and have USER log in again",
            wanted,
            wanted,
            wanted,
        )
    return None


def _listener(path: str, kind: int, access: Access) -> Listener:
    return Listener(path, listen(path, kind, access), access)
