"""The pid file: it names the process of a daemon, for scripts that stop it.

A reader sees either a whole file or none: the file is written under another name, and renamed.  The
daemon keeps it locked (flock(2)) while it runs.  So a file that is not locked is stale, whatever
process has its number now, and a second daemon with the same file fails.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vknet.errors import SetupError, escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["held"]

MODE: Final = 0o644

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
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise _no_pid_file(path) from exc
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _no_pid_file(path)
        content = os.read(fd, SIZE_MAX + 1)
        if len(content) > SIZE_MAX or not re.fullmatch(rb"\s*\d*\s*", content):
            raise _no_pid_file(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            pid = escaped(content.strip())
            raise SetupError(
                f"another vknetd (pid {pid}) runs with the pid file {path}; stop it (kill {pid}),"
                " or choose another one with -i"
            ) from exc
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
    fd = os.open(temporary, flags, MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
