"""The two sockets a vknetd listens on: unix(7), and systemd's socket activation.

    PATH        SOCK_SEQPACKET, a frame a message         mode and group as asked for
    PATH.ctl    SOCK_STREAM, the status as JSON, and end  owner and group

A socket in the file system outlives its owner.  Whether there still is one is told by connecting:
ECONNREFUSED says that nobody has it open.  Looking and replacing are two steps, so the directory is
locked between them (flock(2)); a second daemon that starts in this moment waits.
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

BACKLOG: Final = 128

# Whoever starts a daemon holds the lock for a few system calls.  Anybody else who holds it is a
# nuisance, and not worth more than this many seconds.
LOCK_PATIENCE: Final = 2.0

# Owner and group, whatever mode the first socket has.
CONTROL_MODE: Final = 0o660

OWNER_ONLY: Final = 0o177


@dataclass(frozen=True, slots=True)
class Listeners:
    """Two listening sockets that do not block, and where the first is."""

    frames: socket.socket
    control: socket.socket
    path: str


@contextmanager
def listen_at(path: str, mode: int, group: str | None) -> Iterator[Listeners]:
    """Listen at a path and at its control socket; both are closed and removed in the end.

    Args:
        path: of the first socket.  A socket there whose owner has gone is replaced.
        mode: of the first socket, as for chmod(2).
        group: who may connect beside the owner; None for `DEFAULT_GROUP`, if there is such.

    Raises:
        SetupError: somebody listens there, something else is there, or it is not permitted.
    """
    with ExitStack() as stack:
        with _locked(path):
            frames = stack.enter_context(_bound(path, socket.SOCK_SEQPACKET))
            control = stack.enter_context(_bound(path + CONTROL_SUFFIX, socket.SOCK_STREAM))
            gid = _group(group)
            for sock, own_mode in ((frames, mode), (control, CONTROL_MODE)):
                _give_away(sock.getsockname(), own_mode, gid, group)
                sock.listen(BACKLOG)
        yield Listeners(frames, control, path)


@contextmanager
def adopt(sockets: Sequence[socket.socket]) -> Iterator[Listeners]:
    """Take over what a service manager listens on; it owns the paths, and they stay.

    Args:
        sockets: one of SOCK_SEQPACKET, and perhaps one of SOCK_STREAM for the control.  Where it is
            missing, it is made beside the first.

    Raises:
        SetupError: they are others, or the control socket cannot be made.
    """
    with ExitStack() as stack:
        for sock in sockets:
            stack.callback(sock.close)
            sock.setblocking(False)
        by_kind = {sock.type: sock for sock in sockets if sock.family == socket.AF_UNIX}
        frames = by_kind.get(socket.SOCK_SEQPACKET)
        if frames is None or len(by_kind) != len(sockets) or not all(map(_listens, sockets)):
            raise SetupError(
                "the sockets handed over are to be one of ListenSequentialPacket= and at most one"
                " of ListenStream=, both with a path, and with Accept=no"
            )
        path = os.fsdecode(frames.getsockname())
        control = by_kind.get(socket.SOCK_STREAM)
        if control is not None and control.getsockname() != path + CONTROL_SUFFIX:
            raise SetupError(f"ListenStream= has to be {path}{CONTROL_SUFFIX}, where it is asked")
        if control is None:
            with _locked(path):
                control = stack.enter_context(_bound(path + CONTROL_SUFFIX, socket.SOCK_STREAM))
                owner = Path(path).stat()
                with _held(path + CONTROL_SUFFIX) as itself:
                    with suppress(PermissionError):
                        os.chown(itself, owner.st_uid, owner.st_gid)
                    Path(itself).chmod(CONTROL_MODE)
                control.listen(BACKLOG)
        yield Listeners(frames, control, path)


def _listens(sock: socket.socket) -> bool:
    """Whether clients may come, and by a path."""
    # The name of an abstract socket reads as bytes.
    has_path = isinstance(sock.getsockname(), str) and sock.getsockname()
    return bool(has_path and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _group(name: str | None) -> int | None:
    """The group's number; None to leave the socket its owner's own."""
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
            "there is no group %s, so that the group of root may connect; for others:"
            " groupadd --system %s && usermod -aG %s USER;"
            " then start vknetd again, and let USER log in anew",
            wanted,
            wanted,
            wanted,
        )
    return None


def _give_away(path: str, mode: int, gid: int | None, group: str | None) -> None:
    with _held(path) as itself:
        try:
            if gid is not None:
                os.chown(itself, -1, gid)
        except OSError as exc:
            # A user's own switch: the default group is not theirs to give to, and was not asked
            # for; in a user namespace it may not even exist.
            if group is not None:
                raise SetupError(
                    f"no right to give {path} to the group {group}; only root and its members may"
                ) from exc
        Path(itself).chmod(mode)


@contextmanager
def _held(path: str) -> Iterator[str]:
    """A name for the socket at this path, which stays its own when another is put in its place.

    Where somebody else may write in the directory, a link to any file could be, and its owner and
    mode would be changed.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror}; somebody else changes this directory") from exc
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise SetupError(f"{path} was replaced; somebody else changes this directory")
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Keep other daemons from starting at this path in this moment."""
    directory = Path(path).parent
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise SetupError(
            f"{path}: {exc.strerror}: {directory}; make it, or choose another with -p"
        ) from exc
    try:
        deadline = time.monotonic() + LOCK_PATIENCE
        while time.monotonic() < deadline:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        os.close(fd)


@contextmanager
def _bound(path: str, kind: socket.SocketKind) -> Iterator[socket.socket]:
    """A socket bound to this path, for nobody else yet; removed in the end, if it still is ours."""
    _make_room(path, kind)
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.setblocking(False)
        before = os.umask(OWNER_ONLY)
        try:
            sock.bind(path)
        except OSError as exc:
            raise SetupError(_why_not(path, exc)) from exc
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


def _make_room(path: str, kind: socket.SocketKind) -> None:
    """Remove a socket whose owner has gone.

    Raises:
        SetupError: it has not, or something else is there.
    """
    try:
        there = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise SetupError(_why_not(path, exc)) from exc
    if stat.S_ISDIR(there):
        raise SetupError(f"{path} is a directory; name the socket in it, with -p")
    if not stat.S_ISSOCK(there):
        raise SetupError(f"{path} exists and is no socket; remove it, or choose another with -p")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        refused = probe.connect_ex(path)
    if refused == errno.ECONNREFUSED:
        log.info("replacing %s, whose vknetd has gone", path)
        try:
            Path(path).unlink()
        except OSError as exc:
            raise SetupError(_why_not(path, exc)) from exc
    elif refused == errno.EACCES:
        raise SetupError(f"{path} is somebody else's; choose another socket with -p")
    elif refused == errno.EPROTOTYPE:
        raise SetupError(f"{path} is the socket of another program; choose another with -p")
    elif refused != errno.ENOENT and kind == socket.SOCK_STREAM:
        # A vknetd would have had the first socket as well.
        raise SetupError(
            f"another program listens at {path}, where the control socket would be;"
            " end it, or choose another socket with -p"
        )
    elif refused != errno.ENOENT:
        raise SetupError(
            f"a vknetd that runs listens at {path} (vknetd --status -p {path});"
            " end it, or choose another socket with -p"
        )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _why_not(path: str, exc: OSError) -> str:
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"no right to make a socket at {path}; be root, or choose another with -p"
    if exc.errno == errno.ENOENT:
        return f"{path}: no such directory: {Path(path).parent}"
    return f"cannot make a socket at {path}: {exc.strerror}; choose another with -p"
