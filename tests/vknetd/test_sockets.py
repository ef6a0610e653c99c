"""The sockets of a vknetd: who may connect, and which files it may replace."""

from __future__ import annotations

import errno
import grp
import logging
import os
import socket
import stat
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from vknet.errors import SetupError
from vknet.vknetd.binding import Access, listen
from vknet.vknetd.settings import DEFAULT_GROUP
from vknet.vknetd.sockets import Listener, adopt, listen_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GROUPS = {group.gr_name for group in grp.getgrall()}
OWN_GROUP = grp.getgrgid(os.getegid()).gr_name
KIND = socket.SOCK_SEQPACKET
ACCESS = Access(0o660, os.getegid(), None)


def mode_of(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def control_of(path: Path) -> Path:
    """Return the path of the control socket."""
    return path.with_name(path.name + ".ctl")


def test_sockets_have_the_requested_mode_and_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    with listen_at(str(path), 0o666, OWN_GROUP) as listeners:
        assert mode_of(path) == 0o666
        assert mode_of(control_of(path)) == 0o660
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(str(path))
        assert listeners.path == str(path)
    assert list(tmp_path.iterdir()) == []


def test_sockets_belong_to_the_requested_group(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    group = next(grp.getgrgid(gid) for gid in (*os.getgroups(), os.getegid()))
    with listen_at(str(path), 0o660, group.gr_name):
        assert path.stat().st_gid == control_of(path).stat().st_gid == group.gr_gid


def test_missing_group_is_an_error_only_if_it_was_requested(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vknet.vknetd.sockets.DEFAULT_GROUP", "no-such-group")
    with (
        pytest.raises(SetupError, match="groupadd --system no-such-group"),
        listen_at(str(tmp_path / "a"), 0o660, "no-such-group"),
    ):
        pass
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with caplog.at_level(logging.WARNING), listen_at(str(tmp_path / "b"), 0o660, None):
        assert "groupadd --system no-such-group" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_socket_of_a_running_vknetd_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    with listen_at(str(path), 0o660, OWN_GROUP):
        before = path.stat().st_ino
        with (
            pytest.raises(SetupError, match=f"another vknetd listens on {path} "),
            listen_at(str(path), 0o660, OWN_GROUP),
        ):
            pass
        assert path.stat().st_ino == before
        assert control_of(path).exists()


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    for stale, kind in ((path, socket.SOCK_SEQPACKET), (control_of(path), socket.SOCK_STREAM)):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.bind(str(stale))
    with (
        listen_at(str(path), 0o660, OWN_GROUP),
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client,
    ):
        client.connect(str(path))


def test_other_kind_of_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    path.write_text("precious")
    with (
        pytest.raises(SetupError, match="exists and is not a socket"),
        listen_at(str(path), 0o660, OWN_GROUP),
    ):
        pass
    assert path.read_text() == "precious"


def test_socket_of_another_program_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with (
            pytest.raises(SetupError, match="the socket of another program"),
            listen_at(str(path), 0o660, OWN_GROUP),
        ):
            pass
        assert path.exists()


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    path.symlink_to(tmp_path / "target")
    with (
        pytest.raises(SetupError, match="exists and is not a socket"),
        listen_at(str(path), 0o660, OWN_GROUP),
    ):
        pass
    assert path.is_symlink()


def test_link_that_replaces_the_socket_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, precious = tmp_path / "vknet", tmp_path / "precious"
    precious.touch(0o600)

    def swap(mask: int) -> int:
        # The second call comes after bind(2).
        if path.is_socket():
            path.unlink()
            path.symlink_to(precious)
        return umask(mask)

    umask = os.umask
    monkeypatch.setattr(os, "umask", swap)
    with (
        pytest.raises(SetupError, match="another program changes this directory"),
        listen_at(str(path), 0o666, OWN_GROUP),
    ):
        pass
    assert mode_of(precious) == 0o600


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(SetupError, match=f"No such file or directory: {tmp_path}/missing"),
        listen_at(f"{tmp_path}/missing/vknet", 0o660, OWN_GROUP),
    ):
        pass


@pytest.mark.parametrize("free", range(4))
def test_lack_of_descriptors_is_not_blamed_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    calls = count()

    def limited(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if next(calls) >= free:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return function(*arguments)

        return call

    # The directory to lock it, the socket, its path to set the mode; the control socket.
    monkeypatch.setattr("vknet.vknetd.binding.os.open", limited(os.open))
    monkeypatch.setattr("vknet.vknetd.binding.socket.socket", limited(socket.socket))
    path = tmp_path / "vknet"
    match = r"^cannot create a socket at \S+: Too many open files; raise the limit of open files"
    with pytest.raises(SetupError, match=match), listen_at(str(path), 0o660, None):
        pass
    assert list(tmp_path.iterdir()) == []


def test_default_group_is_that_of_the_manual() -> None:
    assert DEFAULT_GROUP == "vknet"


def test_socket_of_a_service_manager_is_adopted_and_its_path_kept(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    with ExitStack() as stack:
        frames = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        frames.bind(str(path))
        frames.listen()
        with adopt([frames]) as listeners:
            assert listeners.path == str(path)
            assert mode_of(control_of(path)) == 0o660
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            client.connect(str(path))
        assert frames.fileno() == -1
    assert path.exists()
    assert not control_of(path).exists()


def test_unsuitable_sockets_of_a_service_manager_are_refused(tmp_path: Path) -> None:
    for kinds in ([socket.SOCK_STREAM], [socket.SOCK_SEQPACKET] * 2):
        sockets = [socket.socket(socket.AF_UNIX, kind) for kind in kinds]
        with pytest.raises(SetupError, match="ListenSequentialPacket="), adopt(sockets):
            pass
        assert [sock.fileno() for sock in sockets] == [-1] * len(kinds)


def test_path_that_goes_while_the_socket_is_renewed_is_not_reachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vknet"
    listener = Listener(str(path), listen(str(path), KIND, ACCESS), ACCESS)
    try:
        before = listener.sock
        path.unlink()

        def listen_in_vain(*arguments: Any) -> socket.socket:
            sock = listen(*arguments)
            path.unlink()
            return sock

        monkeypatch.setattr("vknet.vknetd.sockets.listen", listen_in_vain)
        with listener.renew() as old:
            assert old is before
            assert listener.sock is not old
        assert not listener.is_reachable
        monkeypatch.undo()
        listener.renew().close()
        assert listener.is_reachable
    finally:
        listener.close()
    assert not path.exists()


def test_path_that_goes_before_the_first_look_is_not_reachable(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    sock = listen(str(path), KIND, ACCESS)
    path.unlink()
    listener = Listener(str(path), sock, ACCESS)
    try:
        assert not listener.is_reachable
    finally:
        listener.close()
