"""Binding a socket to a path (unix(7)).

A socket in the file system outlives the process that bound it.  A connect(2) tells whether a
process still listens: ECONNREFUSED means that none has the socket open, so it is stale and may be
replaced.  The check and the replacement are two steps, so the directory is locked for both
(flock(2)), and a second daemon that starts at the same time waits.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vknet.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RAISE_LIMIT", "Access", "identity", "listen", "locked", "remove_stale"]

log = logging.getLogger(__name__)

LISTEN_BACKLOG: Final = 128

# The advice if this process has too many open files.
RAISE_LIMIT: Final = "raise the limit of open files (ulimit -n, or LimitNOFILE= of the unit)"

# A daemon that starts holds the lock for a few system calls.  Any other program that holds it for
# longer than this is ignored.
LOCK_TIMEOUT_S: Final = 2.0
LOCK_POLL_S: Final = 0.05

# The umask for bind(2): only the owner may connect until mode and group are set.
OWNER_ONLY_UMASK: Final = 0o177


@dataclass(frozen=True, slots=True)
class Access:
    """Who may connect.

    Attributes:
        mode: that of the socket, as for chmod(2).
        gid: its group; None leaves it unchanged.
        group: the name of the group that was asked for, if any.
        uid: its owner, if that may be changed; None leaves it unchanged.
    """

    mode: int
    gid: int | None
    group: str | None
    uid: int | None = None


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Lock the directory of this path, so that no other vknetd starts there meanwhile."""
    directory = Path(path).parent
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.EMFILE:
            raise SetupError(_bind_error(path, exc)) from exc
        advice = "create it, or choose" if exc.errno == errno.ENOENT else "choose"
        raise SetupError(
            f"{path}: {exc.strerror}: {directory}; {advice} another socket with -p"
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


def listen(path: str, kind: int, access: Access) -> socket.socket:
    """Replace a stale socket at this path by a new one, and listen.

    Raises:
        SetupError: a process listens there, another kind of file is there, or permission is denied.
    """
    try:
        remove_stale(path, kind)
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            _bind(sock, path, access)
        except BaseException:
            sock.close()
            raise
    except OSError as exc:
        # Such as EMFILE.
        raise SetupError(_bind_error(path, exc)) from exc
    return sock


def _bind(sock: socket.socket, path: str, access: Access) -> None:
    sock.setblocking(False)
    before = os.umask(OWNER_ONLY_UMASK)
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    ours = identity(path)
    try:
        _set_access(path, access)
        sock.listen(LISTEN_BACKLOG)
    except BaseException:
        if ours is not None and identity(path) == ours:
            with suppress(OSError):
                Path(path).unlink()
        raise


def remove_stale(path: str, kind: int) -> None:
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


def identity(path: str) -> tuple[int, int] | None:
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
    if exc.errno == errno.EMFILE:
        return f"cannot create a socket at {path}: {exc.strerror}; {RAISE_LIMIT}"
    return f"cannot create a socket at {path}: {exc.strerror}; choose another socket with -p"


def _set_access(path: str, access: Access) -> None:
    """Set the mode, the group and the owner of a socket."""
    with _pinned(path) as pinned:
        try:
            if access.gid is not None:
                os.chown(pinned, -1 if access.uid is None else access.uid, access.gid)
        except OSError as exc:
            # For the default group this is no error: a user who runs a switch need not be a member
            # of it, and a user namespace may have no such group.
            if access.group is not None:
                raise SetupError(
                    f"no permission to give {path} to the group {access.group};"
                    " only root and members of the group may do that"
                ) from exc
        Path(pinned).chmod(access.mode)


@contextmanager
def _pinned(path: str) -> Iterator[str]:
    """Provide a path that keeps naming this socket even if another file replaces it.

    Another user who may write in the directory could replace the socket with a link to any file.
    vknetd, as root, would then change the group and mode of that file.

    Raises:
        SetupError: there is no socket at this path, or no longer.
        OSError: descriptors are exhausted.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.EMFILE:
            raise
        raise SetupError(f"{path}: {exc.strerror}; another program changes this directory") from exc
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise SetupError(f"{path} was replaced; another program changes this directory")
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
