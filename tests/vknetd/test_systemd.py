"""vknetd under a service manager: the sockets it is handed, and what it tells.

The manager is systemd-socket-activate(1), with the code of systemd itself, and beside it a few
lines that hand over what a manager should not.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.hosts import eventually
from vknet.errors import SetupError
from vknet.vknetd.sockets import adopt
from vknet.vknetd.systemd import notify

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHIN = 20.0
VKNETD = (sys.executable, "-c", "from vknet.cli.vknetd import main; main()")

# What sd_listen_fds(3) says: descriptors from 3 on, how many, and the pid they are for.
HAND_OVER = """\
import os, sys
given, offset, *command = sys.argv[1:]
os.dup2(int(given), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid() + int(offset)))
os.execv(command[0], command)
"""


class Manager:
    """The notification socket of a service manager: sd_notify(3)."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.address = address
        self._sock = sock

    def told(self) -> list[str]:
        """The assignments of the next message."""
        return self._sock.recv(4096).decode().split("\n")

    def was_told_more(self) -> bool:
        self._sock.setblocking(False)
        try:
            return bool(self._sock.recv(4096))
        except BlockingIOError:
            return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        address = str(tmp_path / "notify")
        sock.bind(address)
        sock.settimeout(WITHIN)
        yield Manager(sock, address)


@contextmanager
def started(*command: str, env: dict[str, str], **more: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True, **more
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def connected(path: Path) -> socket.socket:
    """A client, as soon as somebody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(WITHIN)
    eventually(lambda: sock.connect_ex(str(path)) == 0, f"somebody at {path}")
    return sock


def listening(path: Path, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    sock.listen()
    return sock


def asked(path: Path) -> dict[str, Any]:
    """The status, as the control socket has it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WITHIN)
        sock.connect(f"{path}.ctl")
        status: dict[str, Any] = json.loads(b"".join(iter(lambda: sock.recv(65536), b"")))
        return status


def test_systemd_hands_over_both_sockets_and_the_first_client_starts_it(
    tmp_path: Path, manager: Manager
) -> None:
    path = tmp_path / "vknet"
    activate = "systemd-socket-activate"
    # One of them makes sockets of one kind; the second passes on what it got from the first.
    both = (activate, "--seqpacket", "-l", str(path), activate, "-l", f"{path}.ctl")
    environment = ("-E", f"NOTIFY_SOCKET={manager.address}", "-E", f"PATH={os.environ['PATH']}")
    inner = (*both, *environment, *VKNETD, "-t", "none")
    command = (*inner[:4], *environment, *inner[4:])
    with started(*command, env={}) as process, ExitStack() as stack:
        first, second = (stack.enter_context(connected(path)) for _ in range(2))
        ready = manager.told()
        assert ready == ["READY=1", f"STATUS=listening at {path}, no way out"]
        eventually(lambda: asked(path)["clients"] == 2, "both clients at the switch")
        assert asked(path)["pid"] == process.pid
        frame = b"\xff" * 6 + b"\2\0\0\0\0\1" + b"\x88\xb5" + bytes(46)
        first.send(frame)
        assert second.recv(2000) == frame
        process.terminate()
        assert manager.told() == ["STOPPING=1"]
        assert process.wait(WITHIN) == 0
    # They are the manager's, who starts it again when the next client comes.
    assert path.is_socket()
    assert path.with_name("vknet.ctl").is_socket()


def test_systemd_hands_over_one_socket_and_the_other_is_made_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    command = ("systemd-socket-activate", "--seqpacket", "-l", str(path))
    path_too = ("-E", f"PATH={os.environ['PATH']}")
    with (
        started(*command, *path_too, *VKNETD, "-t", "none", env={}) as process,
        connected(path),
    ):
        eventually(path.with_name("vknet.ctl").exists, "the control socket")
        process.terminate()
        assert process.wait(WITHIN) == 0
    assert path.is_socket()
    assert not path.with_name("vknet.ctl").exists()


def test_it_stays_in_the_foreground_and_makes_its_own_sockets_where_it_is_handed_none(
    tmp_path: Path, manager: Manager
) -> None:
    path = tmp_path / "vknet"
    command = (*VKNETD, "-t", "none", "-p", str(path))
    with started(*command, env={"NOTIFY_SOCKET": manager.address}) as process:
        assert "READY=1" in manager.told()
        assert asked(path)["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
        assert manager.told() == ["STOPPING=1"]
        assert process.wait(WITHIN) == 0
    assert not path.exists()
    assert not manager.was_told_more()


def test_it_is_not_ready_when_it_fails(tmp_path: Path, manager: Manager) -> None:
    command = (*VKNETD, "-t", "none", "-p", f"{tmp_path}/none/vknet")
    with started(*command, env={"NOTIFY_SOCKET": manager.address}) as process:
        assert process.wait(WITHIN) == 1
    assert not manager.was_told_more()


def test_sockets_for_another_process_are_not_taken(tmp_path: Path, manager: Manager) -> None:
    path = tmp_path / "vknet"
    with listening(tmp_path / "other", socket.SOCK_SEQPACKET) as other:
        command = (sys.executable, "-c", HAND_OVER, str(other.fileno()), "1", *VKNETD)
        options = ("-t", "none", "-p", str(path))
        env = {"NOTIFY_SOCKET": manager.address}
        with started(*command, *options, env=env, pass_fds=[other.fileno()]) as process:
            assert manager.told()[1] == f"STATUS=listening at {path}, no way out"
            process.terminate()
            assert process.wait(WITHIN) == 0


def test_the_manager_is_told_on_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(b"\0vknet-test-%d" % os.getpid())
        sock.settimeout(WITHIN)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@vknet-test-{os.getpid()}")
        notify("READY=1", "STATUS=as ever")
        assert sock.recv(100) == b"READY=1\nSTATUS=as ever"


def test_a_manager_that_has_gone_is_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for address, why in (("none", "No such file or directory"), ("x" * 108, "path too long")):
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/{address}")
        notify("READY=1")
        assert f"the service manager cannot be told: {'AF_UNIX ' * (len(address) > 9)}{why}" in (
            caplog.text
        )


def test_ready_waits_for_room_at_the_manager() -> None:
    name = f"vknet-test-full-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sent = fill(f"\0{name}")
        code = "from vknet.vknetd.systemd import notify; notify('READY=1')"
        command = (sys.executable, "-c", code)
        with started(*command, env={"NOTIFY_SOCKET": f"@{name}"}) as process:
            eventually(lambda: waits(process) or process.poll() is not None, "its waiting")
            sock.settimeout(WITHIN)
            assert [sock.recv(100) for _ in range(sent + 1)] == [b"other"] * sent + [b"READY=1"]
            assert process.wait(WITHIN) == 0


def fill(address: str) -> int:
    """Fill the queue of a datagram socket; how many messages that took."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while True:
                sock.sendto(b"other", address)
                sent += 1
        return sent


def waits(process: subprocess.Popen[str]) -> bool:
    """Whether the process waits in poll(2)."""
    return "poll" in Path(f"/proc/{process.pid}/wchan").read_text()


def test_what_does_not_listen_or_has_no_path_is_not_adopted(tmp_path: Path) -> None:
    sent, _ = pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bound.bind(str(tmp_path / "bound"))
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    abstract.bind(b"\0vknet-test-adopt-%d" % os.getpid())
    abstract.listen()
    for sock in (sent, bound, abstract):
        with pytest.raises(SetupError, match="both with a path, and with Accept=no"), adopt([sock]):
            pass
    pair[1].close()


def test_a_control_socket_that_nobody_would_ask_is_not_adopted(tmp_path: Path) -> None:
    frames = listening(tmp_path / "vknet", socket.SOCK_SEQPACKET)
    control = listening(tmp_path / "elsewhere", socket.SOCK_STREAM)
    with (
        pytest.raises(SetupError, match=f"ListenStream= has to be {tmp_path}/vknet.ctl"),
        adopt([frames, control]),
    ):
        pass
