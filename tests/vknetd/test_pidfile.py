"""The pid file of a vknetd."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from testbed.hosts import eventually
from tests.support.vknetd import VKNETD, Vknetd, running
from vknet.errors import SetupError
from vknet.vknetd.pidfile import _try_lock, held

if TYPE_CHECKING:
    from pathlib import Path

OWN = f"{os.getpid()}\n"


def test_file_has_the_pid_and_is_removed_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with held(str(path)):
        assert path.read_text() == OWN
        assert path.stat().st_mode & 0o777 == 0o644
        assert [entry.name for entry in tmp_path.iterdir()] == ["pid"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "1\n", "4194304\n", "  7 "])
def test_stale_file_is_replaced_even_if_its_process_exists(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pid"
    path.write_text(content)
    with held(str(path)):
        assert path.read_text() == OWN
    assert list(tmp_path.iterdir()) == []


def test_locks_of_a_user_who_may_only_read_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("99\n")
    reader = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(reader, fcntl.LOCK_EX)
        assert _try_lock(reader, fcntl.F_RDLCK)
        with held(str(path)):
            assert path.read_text() == OWN
            with pytest.raises(OSError, match="Bad file descriptor"):
                _try_lock(reader, fcntl.F_WRLCK)
    finally:
        os.close(reader)


def test_file_stays_locked_when_the_process_closes_another_descriptor_of_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with held(str(path)):
        os.close(os.open(path, os.O_RDWR))
        with pytest.raises(SetupError, match="another vknetd"), held(str(path)):
            pass


def test_no_other_user_can_open_the_file_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []

    def look(fd: int, kind: int) -> bool:
        modes.append(os.fstat(fd).st_mode & 0o777)
        return _try_lock(fd, kind)

    monkeypatch.setattr("vknet.vknetd.pidfile._try_lock", look)
    with held(str(tmp_path / "pid")):
        assert modes == [0o600]


def test_file_of_a_running_daemon_is_an_error_that_names_its_pid(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with held(str(path)):
        with (
            pytest.raises(SetupError, match=f"another vknetd .pid {os.getpid()}. runs with the"),
            held(str(path)),
        ):
            pass
        assert path.read_text() == OWN
        assert [entry.name for entry in tmp_path.iterdir()] == ["pid"]


@pytest.mark.parametrize("content", ["nginx", "12 13", "9" * 33, "-1"])
def test_file_that_is_no_pid_file_is_not_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "precious"
    path.write_text(content)
    with pytest.raises(SetupError, match="exists and is not a pid file"), held(str(path)):
        pass
    assert path.read_text() == content


def test_link_directory_and_fifo_are_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("1\n")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "directory", "fifo"):
        with pytest.raises(SetupError, match="is not a pid file"), held(str(tmp_path / name)):
            pass
    assert target.read_text() == "1\n"


def test_missing_directory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing/pid"
    match = f"cannot write the pid file {path}: No such"
    with pytest.raises(SetupError, match=match), held(str(path)):
        pass


def test_file_of_another_process_is_kept_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with held(str(path)):
        path.unlink()
        path.write_text("1\n")
    assert path.read_text() == "1\n"


def test_daemon_that_starts_at_the_same_moment_wins_or_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pid"
    link = os.link

    path.write_text("99\n")
    other = os.open(path, os.O_RDWR)
    path.rename(tmp_path / "later")

    def appear(source: str, target: str) -> None:
        monkeypatch.setattr(os, "link", link)
        (tmp_path / "later").rename(path)
        assert _try_lock(other, fcntl.F_WRLCK)
        link(source, target)

    monkeypatch.setattr(os, "link", appear)
    with pytest.raises(SetupError, match=r"another vknetd \(pid 99\)"), held(str(path)):
        pass
    os.close(other)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pid"]


def test_vknetd_writes_the_file_and_a_second_one_fails(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with running(tmp_path, "-i", str(pid_file)) as daemon:
        assert int(pid_file.read_text()) == daemon.process.pid
        command = [*VKNETD, "-t", "none", "-p", str(tmp_path / "other"), "-i", str(pid_file)]
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert second.returncode == 1
        assert f"another vknetd (pid {daemon.process.pid}) runs with the pid" in second.stderr
        assert not (tmp_path / "other").exists()
    assert not pid_file.exists()


def test_file_of_a_killed_vknetd_is_replaced(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with Vknetd(tmp_path, "-i", str(pid_file)) as first:
        first.process.kill()
        first.process.wait()
    assert pid_file.exists()
    with running(tmp_path, "-i", str(pid_file)) as second:
        assert int(pid_file.read_text()) == second.process.pid


def test_file_exists_when_the_parent_ends_and_stops_the_daemon(tmp_path: Path) -> None:
    pid_file, path = tmp_path / "pid", tmp_path / "vknet"
    command = [*VKNETD, "-t", "none", "-p", str(path), "-i", str(pid_file)]
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    os.kill(int(pid_file.read_text()), signal.SIGTERM)
    eventually(lambda: not pid_file.exists(), "a removed pid file")
    eventually(lambda: not path.exists(), "a removed socket")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_during_the_start_leaves_no_file(tmp_path: Path, number: signal.Signals) -> None:
    """As soon as the first file appears, the process is stopped."""
    pid_file, path = tmp_path / "pid", tmp_path / "vknet"
    for _ in range(3):
        daemon = Vknetd(tmp_path, "-i", str(pid_file))
        try:
            eventually(lambda: path.exists() or pid_file.exists(), "a file", every=0.0005)
            daemon.process.send_signal(number)
            assert daemon.process.wait(60) == 0
        finally:
            daemon.process.kill()
            daemon.process.wait()
        assert [entry for entry in tmp_path.iterdir() if entry.suffix != ".log"] == []
