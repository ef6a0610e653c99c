"""vknetd under a service manager: the sockets that it gets, and the notifications that it sends.

The manager is systemd-socket-activate(1), which shares its code with systemd.  A short program here
passes sockets in ways that systemd does not.
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

# The time for an answer, and for a process to end.
TIMEOUT_S = 20.0
VKNETD = (sys.executable, "-c", "from vknet.cli.vknetd import main; main()")

# Runs a command with one passed socket, as sd_listen_fds(3) says, and with a LISTEN_PID that is
# `offset` too high.
PASS_SOCKET = """\
import os, sys
fd, offset, *command = sys.argv[1:]
os.dup2(int(fd), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid() + int(offset)))
os.execv(command[0], command)
"""


class Manager:
    """The notification socket of a service manager, sd_notify(3).

    Attributes:
        address: the value of NOTIFY_SOCKET.
    """

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.address = address
        self._sock = sock

    def receive(self) -> list[str]:
        """Receive the next message; return its assignments."""
        return self._sock.recv(4096).decode().split("\n")

    def has_more(self) -> bool:
        """Whether another message has arrived."""
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
        sock.settimeout(TIMEOUT_S)
        yield Manager(sock, address)


@contextmanager
def started(*command: str, env: dict[str, str], **settings: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a process, with these additions to the environment; kill it in the end."""
    with subprocess.Popen(
        command, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True, **settings
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def connected(path: Path) -> socket.socket:
    """Connect a client as soon as a process listens; the caller closes the socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(TIMEOUT_S)
    eventually(lambda: sock.connect_ex(str(path)) == 0, f"a listener on {path}")
    return sock


def listening(path: Path, kind: socket.SocketKind) -> socket.socket:
    """Return a socket that listens; the caller closes it."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    sock.listen()
    return sock


def status_of(path: Path) -> dict[str, Any]:
    """Return the answer of the control socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect(f"{path}.ctl")
        status: dict[str, Any] = json.loads(b"".join(iter(lambda: sock.recv(65536), b"")))
        return status


def test_both_sockets_come_from_systemd_and_the_first_client_starts_vknetd(
    tmp_path: Path, manager: Manager
) -> None:
    path = tmp_path / "vknet"
    activate = "systemd-socket-activate"
    # Each creates sockets of one type.  The inner one also passes on the socket of the outer one.
    both = (activate, "--seqpacket", "-l", str(path), activate, "-l", f"{path}.ctl")
    environment = ("-E", f"NOTIFY_SOCKET={manager.address}", "-E", f"PATH={os.environ['PATH']}")
    inner = (*both, *environment, *VKNETD, "-t", "none")
    command = (*inner[:4], *environment, *inner[4:])
    with started(*command, env={}) as process, ExitStack() as stack:
        first, second = (stack.enter_context(connected(path)) for _ in range(2))
        ready = manager.receive()
        assert ready == ["READY=1", f"STATUS=listening on {path}, no uplink"]
        eventually(lambda: status_of(path)["clients"] == 2, "both clients at the switch")
        assert status_of(path)["pid"] == process.pid
        frame = b"\xff" * 6 + b"\2\0\0\0\0\1" + b"\x88\xb5" + bytes(46)
        first.send(frame)
        assert second.recv(2000) == frame
        process.terminate()
        assert manager.receive() == ["STOPPING=1"]
        assert process.wait(TIMEOUT_S) == 0
    # The manager owns the sockets, and would start vknetd again for the next client.
    assert path.is_socket()
    assert path.with_name("vknet.ctl").is_socket()


def test_missing_control_socket_is_created_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    command = ("systemd-socket-activate", "--seqpacket", "-l", str(path))
    environment = ("-E", f"PATH={os.environ['PATH']}")
    with (
        started(*command, *environment, *VKNETD, "-t", "none", env={}) as process,
        connected(path),
    ):
        eventually(path.with_name("vknet.ctl").exists, "the control socket")
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    assert path.is_socket()
    assert not path.with_name("vknet.ctl").exists()


def test_vknetd_without_passed_sockets_stays_in_the_foreground_and_creates_its_own(
    tmp_path: Path, manager: Manager
) -> None:
    path = tmp_path / "vknet"
    command = (*VKNETD, "-t", "none", "-p", str(path))
    with started(*command, env={"NOTIFY_SOCKET": manager.address}) as process:
        assert "READY=1" in manager.receive()
        assert status_of(path)["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
        assert manager.receive() == ["STOPPING=1"]
        assert process.wait(TIMEOUT_S) == 0
    assert not path.exists()
    assert not manager.has_more()


def test_vknetd_that_fails_does_not_notify_ready(tmp_path: Path, manager: Manager) -> None:
    command = (*VKNETD, "-t", "none", "-p", f"{tmp_path}/none/vknet")
    with started(*command, env={"NOTIFY_SOCKET": manager.address}) as process:
        assert process.wait(TIMEOUT_S) == 1
    assert not manager.has_more()


def test_sockets_for_another_process_are_not_adopted(tmp_path: Path, manager: Manager) -> None:
    path = tmp_path / "vknet"
    with listening(tmp_path / "other", socket.SOCK_SEQPACKET) as other:
        command = (sys.executable, "-c", PASS_SOCKET, str(other.fileno()), "1", *VKNETD)
        options = ("-t", "none", "-p", str(path))
        env = {"NOTIFY_SOCKET": manager.address}
        with started(*command, *options, env=env, pass_fds=[other.fileno()]) as process:
            assert manager.receive()[1] == f"STATUS=listening on {path}, no uplink"
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0


def test_abstract_notification_socket_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(b"\0vknet-test-%d" % os.getpid())
        sock.settimeout(TIMEOUT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@vknet-test-{os.getpid()}")
        notify("READY=1", "STATUS=text")
        assert sock.recv(100) == b"READY=1\nSTATUS=text"


def test_missing_manager_is_only_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for address, why in (("none", "No such file or directory"), ("x" * 108, "path too long")):
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/{address}")
        notify("READY=1")
        assert f"cannot notify the service manager: {'AF_UNIX ' * (len(address) > 9)}{why}" in (
            caplog.text
        )


def test_ready_waits_for_room_in_the_queue_of_the_manager() -> None:
    name = f"vknet-test-full-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sent = fill(f"\0{name}")
        code = "from vknet.vknetd.systemd import notify; notify('READY=1')"
        command = (sys.executable, "-c", code)
        with started(*command, env={"NOTIFY_SOCKET": f"@{name}"}) as process:
            eventually(
                lambda: is_polling(process) or process.poll() is not None, "a wait in poll(2)"
            )
            sock.settimeout(TIMEOUT_S)
            assert [sock.recv(100) for _ in range(sent + 1)] == [b"other"] * sent + [b"READY=1"]
            assert process.wait(TIMEOUT_S) == 0


def fill(address: str) -> int:
    """Fill the queue of a datagram socket; return the number of messages that fit."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while True:
                sock.sendto(b"other", address)
                sent += 1
        return sent


def is_polling(process: subprocess.Popen[str]) -> bool:
    """Whether the process waits in poll(2)."""
    return "poll" in Path(f"/proc/{process.pid}/wchan").read_text()


def test_socket_that_does_not_listen_or_has_no_path_is_not_adopted(tmp_path: Path) -> None:
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


def test_control_socket_with_another_path_is_not_adopted(tmp_path: Path) -> None:
    frames = listening(tmp_path / "vknet", socket.SOCK_SEQPACKET)
    control = listening(tmp_path / "elsewhere", socket.SOCK_STREAM)
    with (
        pytest.raises(SetupError, match=f"ListenStream= must be {tmp_path}/vknet.ctl"),
        adopt([frames, control]),
    ):
        pass
