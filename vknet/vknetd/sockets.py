"""The two sockets on which a vknetd listens: unix(7), and systemd's socket activation.

    PATH        SOCK_SEQPACKET, one frame per message     mode and group as requested
    PATH.ctl    SOCK_STREAM, the status as JSON           mode 0660, the same group

A socket in the file system outlives the process that bound it.  A connect(2) tells whether a
process still listens: ECONNREFUSED means that none has the socket open, so it is stale and may be
replaced.  The check and the replacement are two steps, so the directory is locked for both
(flock(2)), and a second daemon that starts at the same time waits.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import logging
import os
import socket
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vknet.errors import SetupError, escaped
from vknet.vknetd.settings import CONTROL_SUFFIX, DEFAULT_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Listeners", "adopt", "listen_at"]

log = logging.getLogger(__name__)

LISTEN_BACKLOG: Final = 128

# A daemon that starts holds the lock for a few system calls.  Any other program that holds it for
# longer than this is ignored.
LOCK_TIMEOUT_S: Final = 2.0
LOCK_POLL_S: Final = 0.05

# Owner and group, whatever the mode of the first socket is.
CONTROL_MODE: Final = 0o660

# The umask for bind(2): only the owner may connect until mode and group are set.
OWNER_ONLY_UMASK: Final = 0o177


@dataclass(frozen=True, slots=True)
class Listeners:
    """Two listening, non-blocking sockets.

    Attributes:
        frames: the SOCK_SEQPACKET socket for clients.
        control: the SOCK_STREAM socket for the status.
        path: that of `frames`.
    """

    frames: socket.socket
    control: socket.socket
    path: str


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
        with _locked(path):
            frames = stack.enter_context(_bound(path, socket.SOCK_SEQPACKET))
            control = stack.enter_context(_bound(path + CONTROL_SUFFIX, socket.SOCK_STREAM))
            gid = _group_id(group)
            for sock, own_mode in ((frames, mode), (control, CONTROL_MODE)):
                _set_access(sock.getsockname(), own_mode, gid, group)
                sock.listen(LISTEN_BACKLOG)
        yield Listeners(frames, control, path)


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
        control = by_kind.get(socket.SOCK_STREAM)
        if control is not None and control.getsockname() != path + CONTROL_SUFFIX:
            raise SetupError(
                f"ListenStream= must be {path}{CONTROL_SUFFIX}, the path of the control socket"
            )
        if control is None:
            with _locked(path):
                control = stack.enter_context(_bound(path + CONTROL_SUFFIX, socket.SOCK_STREAM))
                owner = Path(path).stat()
                with _pinned(path + CONTROL_SUFFIX) as pinned:
                    with suppress(PermissionError):
                        os.chown(pinned, owner.st_uid, owner.st_gid)
                    Path(pinned).chmod(CONTROL_MODE)
                control.listen(LISTEN_BACKLOG)
        yield Listeners(frames, control, path)


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


def _set_access(path: str, mode: int, gid: int | None, group: str | None) -> None:
    """Set the mode and the group of a socket; `group` is the group that was asked for, if any."""
    with _pinned(path) as pinned:
        try:
            if gid is not None:
                os.chown(pinned, -1, gid)
        except OSError as exc:
            # For the default group this is no error: a user who runs a switch need not be a member
            # of it, and a user namespace may have no such group.
            if group is not None:
                raise SetupError(
                    f"no permission to give {path} to the group {group};"
                    " only root and members of the group may do that"
                ) from exc
        Path(pinned).chmod(mode)


@contextmanager
def _pinned(path: str) -> Iterator[str]:
    """Provide a path that keeps naming this socket even if another file replaces it.

    Another user who may write in the directory could replace the socket with a link to any file.
    vknetd, as root, would then change the group and mode of that file.

    Raises:
        SetupError: there is no socket at this path, or no longer.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror}; another program changes this directory") from exc
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise SetupError(f"{path} was replaced; another program changes this directory")
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Lock the directory of this path, so that no other vknetd starts there meanwhile."""
    directory = Path(path).parent
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise SetupError(
            f"{path}: {exc.strerror}: {directory}; create it, or choose another socket with -p"
        ) from exc
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(fd)


@contextmanager
def _bound(path: str, kind: socket.SocketKind) -> Iterator[socket.socket]:
    """Bind a socket to this path, with access for its owner only.

    In the end it is closed, and removed unless another file has replaced it.
    """
    _remove_stale(path, kind)
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.setblocking(False)
        before = os.umask(OWNER_ONLY_UMASK)
        try:
            sock.bind(path)
        except OSError as exc:
            raise SetupError(_bind_error(path, exc)) from exc
        finally:
            os.umask(before)
        ours = _identity(path)
        try:
            yield sock
        finally:
            if ours is not None and _identity(path) == ours:
                with suppress(OSError):
                    Path(path).unlink()
    finally:
        sock.close()


def _remove_stale(path: str, kind: socket.SocketKind) -> None:
    """Remove a stale socket at this path, if there is one.

    Raises:
        SetupError: a process listens there, or another kind of file is there.
    """
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise SetupError(_bind_error(path, exc)) from exc
    if stat.S_ISDIR(mode):
        raise SetupError(f"{path} is a directory; name the socket in it, with -p")
    if not stat.S_ISSOCK(mode):
        raise SetupError(
            f"{path} exists and is not a socket; remove it, or choose another socket with -p"
        )
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        error = probe.connect_ex(path)
    if error == errno.ECONNREFUSED:
        log.info("replacing %s, whose vknetd no longer runs", path)
        try:
            Path(path).unlink()
        except OSError as exc:
            raise SetupError(_bind_error(path, exc)) from exc
    elif error == errno.EACCES:
        raise SetupError(f"{path} belongs to another user; choose another socket with -p")
    elif error == errno.EPROTOTYPE:
        raise SetupError(f"{path} is the socket of another program; choose another socket with -p")
    elif error != errno.ENOENT and kind == socket.SOCK_STREAM:
        # It is not a vknetd: that would have been found at the first socket.
        raise SetupError(
            f"another program listens on {path}, the path of the control socket;"
            " stop it, or choose another socket with -p"
        )
    elif error != errno.ENOENT:
        raise SetupError(
            f"another vknetd listens on {path} (vknetd --status -p {path});"
            " stop it, or choose another socket with -p"
        )


def _identity(path: str) -> tuple[int, int] | None:
    """Return the device and inode of a file; None if there is none."""
    try:
        status = Path(path).lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _bind_error(path: str, exc: OSError) -> str:
    """Return the message for a socket that cannot be created or replaced."""
    if exc.errno in (errno.EACCES, errno.EPERM):
        return (
            f"no permission to create a socket at {path};"
            " run vknetd as root, or choose another socket with -p"
        )
    if exc.errno == errno.ENOENT:
        return f"{path}: no such directory: {Path(path).parent}"
    return f"cannot create a socket at {path}: {exc.strerror}; choose another socket with -p"
