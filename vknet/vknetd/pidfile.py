"""The pid file: it names the process of a daemon, for scripts that stop it.

A reader sees either a whole file or none: the file is written under another name, and renamed.  The
daemon keeps it locked while it runs.  So a file that is not locked is stale, whatever process has
its number now, and a second daemon with the same file fails.

Every user may read the file, so the lock is a write lock (F_OFD_SETLK in fcntl(2)), which needs
permission to write; flock(2) does not.  A reader can have a read lock, which keeps others from
write locks but not from read locks.  So a file is stale if a read lock is granted.
The lock belongs to the open file: it outlives the fork(2) into the background.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vknet.errors import SetupError, escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["held"]

MODE: Final = 0o644
OWNER_ONLY: Final = 0o600

# struct flock of fcntl(2): type, whence, start, length, pid.  Length 0 is the whole file.
LOCK_FORMAT: Final = "hhqqi0q"

# A pid file is at most this long.  Any other file is not replaced.
SIZE_MAX: Final = 32

# How often to begin again when another process replaces the file meanwhile.
TRIES: Final = 10


@contextmanager
def held(path: str) -> Iterator[None]:
    """Keep a file with the pid of this process; it is removed in the end.

    Raises:
        SetupError: another daemon holds it, another kind of file is there, or it cannot be written.
    """
    try:
        fd = _write(path)
    except OSError as exc:
        raise SetupError(
            f"cannot write the pid file {path}: {exc.strerror}; choose another one with -i"
        ) from exc
    try:
        yield
    finally:
        with suppress(OSError):
            if _is_same(path, fd):
                Path(path).unlink()
        os.close(fd)


def _write(path: str) -> int:
    """Write the file, and return a descriptor that locks it."""
    for _ in range(TRIES):
        stale = _lock_stale(path)
        try:
            fd = _replace(path, stale)
        finally:
            if stale is not None:
                os.close(stale)
        if fd is not None:
            return fd
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _lock_stale(path: str) -> int | None:
    """Lock the file of a daemon that has ended; None if there is no file.

    Raises:
        SetupError: its daemon runs, or it is not a pid file.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EISDIR):
            raise _no_pid_file(path) from exc
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _no_pid_file(path)
        content = os.read(fd, SIZE_MAX + 1)
        if len(content) > SIZE_MAX or not re.fullmatch(rb"\s*\d*\s*", content):
            raise _no_pid_file(path)
        # The write lock keeps out another daemon that starts now.  It is refused while a user
        # holds a read lock; such a daemon is then not kept out.
        if not (_try_lock(fd, fcntl.F_WRLCK) or _try_lock(fd, fcntl.F_RDLCK)):
            pid = escaped(content.strip())
            raise SetupError(
                f"another vknetd (pid {pid}) runs with the pid file {path}; stop it (kill {pid}),"
                " or choose another one with -i"
            )
    except BaseException:
        os.close(fd)
        raise
    return fd


def _replace(path: str, stale: int | None) -> int | None:
    """Put a new, locked file at the path; None if another process has put one there meanwhile."""
    temporary = f"{path}.{os.getpid()}"
    with suppress(FileNotFoundError):
        Path(temporary).unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # No other user can lock it before this process has.
    fd = os.open(temporary, flags, OWNER_ONLY)
    try:
        if not _try_lock(fd, fcntl.F_WRLCK):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        os.fchmod(fd, MODE)
        os.write(fd, b"%d\n" % os.getpid())
        if stale is None:
            # Unlike rename(2), link(2) fails if there is a file.
            os.link(temporary, path)
        elif _is_same(path, stale):
            # No other daemon replaces it: this one holds its lock.
            Path(temporary).rename(path)
            return fd
        else:
            os.close(fd)
            return None
    except FileExistsError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    finally:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
    return fd


def _try_lock(fd: int, kind: int) -> bool:
    """Lock an open file, F_WRLCK or F_RDLCK; whether no other open file's lock prevents it."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(LOCK_FORMAT, kind, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        return False
    return True


def _is_same(path: str, fd: int) -> bool:
    """Whether the path names this open file."""
    try:
        there = Path(path).lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def _no_pid_file(path: str) -> SetupError:
    return SetupError(
        f"{path} exists and is not a pid file; remove it, or choose another one with -i"
    )
