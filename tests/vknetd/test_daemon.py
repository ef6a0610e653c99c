"""The tasks of a daemon: an error in one of them ends that one, and a removed socket comes back."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
import trio

from tests.support.daemon import connect, next_frame, serving, settings_of
from tests.support.links import running
from tests.support.packets import BROADCAST, station_frame, station_mac
from vknet.errors import EndpointGone, SetupError
from vknet.link.backoff import Backoff
from vknet.packet.ethernet import addresses
from vknet.vknetd.accepting import ACCEPT_PAUSE_S, LOG_INTERVAL_S, accept_all
from vknet.vknetd.control import CONNECTIONS_MAX
from vknet.vknetd.daemon import Daemon
from vknet.vknetd.peer import Credentials
from vknet.vknetd.sockets import Listener, Listeners, adopt, listen_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from trio.testing import MockClock

FATAL = station_frame(BROADCAST, station_mac(1), payload=b"\xde\xad" * 23)
HARMLESS = station_frame(BROADCAST, station_mac(2))


@pytest.fixture
def _fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch has a fault, which one frame meets."""
    inject(monkeypatch, KeyError("the fault"))


def inject(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def faulty(frame: bytes) -> Any:
        if frame == FATAL:
            raise error
        return addresses(frame)

    monkeypatch.setattr("vknet.switch.routing.addresses", faulty)


async def settle(check: Callable[[], object], what: str) -> None:
    """Wait until something holds."""
    with trio.move_on_after(60):
        while not check():  # noqa: ASYNC110 - it is about files and counters, which have no event
            await trio.sleep(0.002)
        return
    raise AssertionError(f"not within 60 s: {what}")


def open_descriptors() -> int:
    """The number of descriptors that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


# --- unexpected errors ----------------------------------------------------------------------------


@pytest.mark.usefixtures("_fault")
async def test_error_in_the_task_of_one_client_ends_that_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "vknet")
    path = tmp_path / "vknet"
    async with serving(path) as daemon:
        with connect(path) as bad, connect(path) as a, connect(path) as b:
            await settle(lambda: daemon.status()["clients"] == 3, "three clients")
            bad.send(FATAL)
            assert await next_frame(bad) == b""
            a.send(HARMLESS)
            assert await next_frame(b) == HARMLESS
            assert daemon.status()["clients"] == 2
            with connect(path) as c:
                await settle(lambda: daemon.status()["clients"] == 3, "a new client")
                a.send(HARMLESS)
                assert await next_frame(c) == HARMLESS
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    (text,) = (record.getMessage() for record in errors)
    assert text.startswith(f"client1 (uid {os.getuid()}) was disconnected because of an internal")
    assert "KeyError: 'the fault'" in text
    assert "\n" not in text
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert [record.levelno for record in tracebacks] == [logging.DEBUG]


async def test_exhausted_memory_ends_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, MemoryError())
    path = tmp_path / "vknet"
    with pytest.RaisesGroup(MemoryError, flatten_subgroups=True):
        async with serving(path):
            with connect(path) as bad:
                bad.send(FATAL)
                await trio.sleep_forever()


async def test_error_while_a_status_is_made_ends_that_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr("vknet.vknetd.daemon.table_status", fail)
    path = tmp_path / "vknet"
    async with serving(path):
        with socket.socket(socket.AF_UNIX) as request:
            request.setblocking(False)
            request.connect(f"{path}.ctl")
            assert await next_frame(request) == b""
        with connect(path) as a, connect(path) as b:
            a.send(HARMLESS)
            assert await next_frame(b) == HARMLESS
    assert "a request for the status failed because of an internal error: ZeroDiv" in caplog.text


class Tap:
    """An endpoint that counts how often it is closed."""

    name = "tap0"
    closed = 0

    async def __aenter__(self) -> Tap:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed += 1


async def test_error_in_the_task_of_the_uplink_opens_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taps = [Tap(), Tap(), Tap()]
    served: list[Any] = []

    async def serve(self: Daemon, tap: Any) -> EndpointGone:
        del self
        served.append(tap)
        if tap is taps[0]:
            raise ExceptionGroup("", [KeyError("the fault")])
        if tap is taps[1]:
            return EndpointGone("the interface tap0 was deleted")
        await trio.sleep_forever()
        raise AssertionError

    async def reopen(self: Daemon, backoff: Backoff) -> Any:
        del self, backoff
        return taps[len(served)]

    monkeypatch.setattr(Daemon, "_serve_tap", serve)
    monkeypatch.setattr(Daemon, "_reopen_tap", reopen)
    path = tmp_path / "vknet"
    with listen_at(str(path), 0o660, None) as listeners:
        daemon = Daemon(settings_of(path), listeners)
        async with running() as nursery:
            first: Any = taps[0]
            nursery.start_soon(daemon._keep_tap, first)
            await trio.testing.wait_all_tasks_blocked()
    assert served == taps
    assert [tap.closed for tap in taps] == [1, 1, 1]
    assert "the uplink tap0 was closed because of an internal error: KeyError" in caplog.text
    assert "the interface tap0 was deleted; creating it again" in caplog.text


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the daemon tried to open the TAP; each delay is the longest one."""
    monkeypatch.setattr("vknet.link.backoff.part", lambda: 1.0)
    return []


def daemon_of(path: Path, stack: ExitStack) -> Daemon:
    """A daemon that is not served."""
    return Daemon(settings_of(path), stack.enter_context(listen_at(str(path), 0o660, None)))


async def test_uplink_that_cannot_be_opened_is_tried_with_growing_pauses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attempts: list[float],
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    del autojump_clock
    start = trio.current_time()

    async def fail(self: Daemon) -> Any:
        del self
        attempts.append(round(trio.current_time() - start, 3))
        await trio.lowlevel.checkpoint()
        raise SetupError("no permission")

    monkeypatch.setattr(Daemon, "_open_tap", fail)
    with ExitStack() as stack, trio.move_on_after(46):
        await daemon_of(tmp_path / "vknet", stack)._reopen_tap(Backoff(1))
    assert attempts == [1, 3, 7, 15, 25, 35, 45]
    lines = [r.getMessage() for r in caplog.records if r.name == "vknet.vknetd.daemon"]
    assert lines == ["no permission"]
    assert "internal error" not in caplog.text


@pytest.mark.parametrize(
    ("lasts", "opened"), [(0, [1, 3, 7, 15, 25, 35, 45]), (31, [32, 64, 96, 128])]
)
async def test_uplink_that_is_lost_at_once_is_opened_with_growing_pauses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attempts: list[float],
    autojump_clock: MockClock,
    lasts: float,
    opened: list[float],
) -> None:
    del autojump_clock
    start = trio.current_time()

    async def serve(self: Daemon, tap: Any) -> EndpointGone:
        del self, tap
        await trio.sleep(lasts)
        return EndpointGone("the interface tap0 was deleted")

    async def open_it(self: Daemon) -> Any:
        del self
        attempts.append(round(trio.current_time() - start, 3))
        await trio.lowlevel.checkpoint()
        return Tap()

    monkeypatch.setattr(Daemon, "_serve_tap", serve)
    monkeypatch.setattr(Daemon, "_open_tap", open_it)
    first: Any = Tap()
    with ExitStack() as stack, trio.move_on_after(opened[-1] + 0.5):
        await daemon_of(tmp_path / "vknet", stack)._keep_tap(first)
    assert attempts == opened


# --- a socket whose path is lost ------------------------------------------------------------------


@pytest.fixture
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vknet.vknetd.daemon.MAINTAIN_INTERVAL_S", 0.002)


def is_reachable(daemon: Daemon) -> bool:
    """Whether both paths name the sockets of the daemon."""
    listeners = daemon._listeners
    return listeners.frames.is_reachable and listeners.control.is_reachable


def answers(path: Path) -> bool:
    """Whether a process listens on this path."""
    kind = socket.SOCK_STREAM if path.suffix == ".ctl" else socket.SOCK_SEQPACKET
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.setblocking(False)
        return sock.connect_ex(str(path)) == 0


@pytest.mark.usefixtures("_fast")
@pytest.mark.parametrize("name", ["vknet", "vknet.ctl"])
async def test_removed_socket_is_created_again_and_clients_stay(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, lost = tmp_path / "vknet", tmp_path / name
    async with serving(path) as daemon:
        with connect(path) as a:
            await settle(lambda: daemon.status()["clients"] == 1, "a client")
            before = lost.stat()
            for _ in range(3):
                lost.unlink()
                await settle(lambda: is_reachable(daemon), "a new socket")
            after = lost.stat()
            assert (after.st_mode, after.st_gid) == (before.st_mode, before.st_gid)
            with connect(path) as b:
                await settle(lambda: len(daemon.status()["ports"]) == 2, "both clients")
                a.send(HARMLESS)
                assert await next_frame(b) == HARMLESS
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert lines.count(f"{lost} was removed or replaced; created it again") == 3
    assert not answers(lost)


@pytest.mark.usefixtures("_fast")
async def test_renewed_socket_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    async with serving(path) as daemon:
        before = open_descriptors()
        for _ in range(5):
            path.unlink()
            await settle(lambda: is_reachable(daemon), "a new socket")
            await settle(lambda: open_descriptors() == before, "no descriptor more than before")


@pytest.mark.usefixtures("_fast")
async def test_file_in_place_of_the_socket_is_named_once_and_not_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "vknet"
    async with serving(path) as daemon:
        path.unlink()
        path.write_text("precious")
        await settle(lambda: "exists and is not a socket" in caplog.text, "a message")
        for _ in range(20):
            await trio.sleep(0.002)
        assert caplog.text.count("exists and is not a socket") == 1
        assert path.read_text() == "precious"
        path.unlink()
        await settle(lambda: is_reachable(daemon), "a new socket")


@pytest.mark.usefixtures("_fast")
async def test_socket_of_another_program_is_not_replaced_while_that_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "vknet"
    async with serving(path) as daemon:
        path.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            other.bind(str(path))
            other.listen()
            await settle(lambda: "another vknetd listens" in caplog.text, "a message")
            other_inode = path.stat().st_ino
            await trio.sleep(0.01)
            assert path.stat().st_ino == other_inode
        # It has ended, and left its socket behind.
        await settle(lambda: is_reachable(daemon), "a new socket")
        with connect(path):
            await settle(lambda: daemon.status()["clients"] == 1, "a client")


@pytest.mark.usefixtures("_fast")
async def test_removed_directory_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    path = directory / "vknet"
    async with serving(path) as daemon:
        for name in ("vknet", "vknet.ctl"):
            (directory / name).unlink()
        directory.rmdir()
        await settle(lambda: "No such file or directory" in caplog.text, "a message")
        directory.mkdir()
        await settle(lambda: is_reachable(daemon), "new sockets")
        assert answers(path)
        assert answers(directory / "vknet.ctl")


def test_path_of_a_service_manager_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    with ExitStack() as stack:
        sockets = []
        for name, kind in (("vknet", socket.SOCK_SEQPACKET), ("vknet.ctl", socket.SOCK_STREAM)):
            sock = socket.socket(socket.AF_UNIX, kind)
            sock.bind(str(tmp_path / name))
            sock.listen()
            sockets.append(sock)
        listeners = stack.enter_context(adopt(sockets))
        path.unlink()
        assert listeners.frames.is_reachable
        assert listeners.control.is_reachable


# --- accepting ------------------------------------------------------------------------------------


class Failing:
    """A listening socket that cannot accept."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self._sock = sock
        self._number = number
        self.calls = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def accept(self) -> NoReturn:
        self.calls += 1
        raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EINVAL])
async def test_exhausted_descriptors_are_logged_once_a_minute(
    number: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as waiting,
    ):
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        waiting.connect(str(tmp_path / "s"))
        failing = Failing(sock, number)
        listener = Listener(str(tmp_path / "s"), sock)
        listener.sock = failing  # type: ignore[assignment]  # it has what is called
        minutes = 3
        with trio.move_on_after(minutes * LOG_INTERVAL_S - 1):
            await accept_all(listener, "a client", lambda _: None)
    lines = [r.getMessage() for r in caplog.records if "cannot accept a client" in r.getMessage()]
    assert len(lines) == minutes
    assert os.strerror(number) in lines[0]
    assert failing.calls <= minutes * LOG_INTERVAL_S / ACCEPT_PAUSE_S


async def test_client_that_has_gone_before_it_is_accepted_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "vknet"
    async with serving(path) as daemon:
        for _ in range(200):
            connect(path).close()
            await trio.lowlevel.checkpoint()
        await settle(lambda: daemon.status()["clients"] == 0, "no client")
        assert daemon.status()["clients_refused"] == 0
    assert not [r for r in caplog.records if r.levelno > logging.INFO and "accept" in r.message]


# --- shares ---------------------------------------------------------------------------------------


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The user IDs of the connections that are accepted next, in order."""
    uids: list[int] = []

    def credentials(_: object) -> Credentials:
        return Credentials(0, uids.pop(0), 0)

    for module in ("daemon", "control"):
        monkeypatch.setattr(f"vknet.vknetd.{module}.credentials_of", credentials)
        monkeypatch.setattr(f"vknet.vknetd.{module}.exempt_users", lambda: {0})
    yield uids
    assert uids == []


async def test_one_user_cannot_take_all_ports(
    tmp_path: Path, users: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "vknet"
    async with serving(path, clients=8) as daemon:
        with ExitStack() as stack:
            users += [1000] * 6 + [1001, 0]
            for _ in range(8):
                stack.enter_context(connect(path))
            await settle(lambda: not users, "every connection is accepted")
            status = daemon.status()
            assert status["clients_refused"] == 2
            assert [port["uid"] for port in status["ports"]] == [1000] * 4 + [1001, 0]
    assert "a client was refused: user 1000 has 4, and only 4 more are free" in caplog.text


async def test_one_user_cannot_take_all_places_of_the_control_socket(
    tmp_path: Path, users: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vknet.vknetd.control.CONNECTIONS_MAX", 4)
    path = tmp_path / "vknet"
    async with serving(path) as daemon:
        # Its answers do not fit into a socket's buffer, so each holds its place.
        monkeypatch.setattr("vknet.vknetd.control.ANSWER_TIMEOUT_S", 1000)
        monkeypatch.setattr(daemon, "_started", -1.0)
        long = {**daemon.status(), "program": "x" * 1_000_000}
        monkeypatch.setattr("vknet.vknetd.control.json.dumps", lambda _: str(long))
        with ExitStack() as stack:
            requests = []
            users += [1000] * 3 + [1001]
            for _ in range(4):
                request = stack.enter_context(socket.socket(socket.AF_UNIX))
                request.setblocking(False)
                request.connect(f"{path}.ctl")
                requests.append(request)
            begun = [await next_frame(request) for request in requests]
            assert [answer[:8] for answer in begun] == [
                b"{'progra",
                b"{'progra",
                b'{"busy":',
                b"{'progra",
            ]


async def test_descriptors_that_a_client_passes_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    async with serving(path) as daemon:
        with connect(path) as a, connect(path) as b, (tmp_path / "file").open("w") as file:
            await settle(lambda: daemon.status()["clients"] == 2, "both clients")
            before = open_descriptors()
            for _ in range(50):
                socket.send_fds(a, [HARMLESS], [file.fileno()] * 10)
                # The frame itself is carried.
                assert await next_frame(b) == HARMLESS
            assert open_descriptors() == before


async def test_request_that_sends_data_and_descriptors_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    async with serving(path):
        with (tmp_path / "file").open("w") as file:
            before = open_descriptors()
            for _ in range(50):
                with socket.socket(socket.AF_UNIX) as request:
                    request.connect(f"{path}.ctl")
                    request.setblocking(False)
                    socket.send_fds(request, [b"GET / HTTP/1.1\r\n"], [file.fileno()] * 10)
                    assert await next_frame(request)
            await settle(lambda: open_descriptors() == before, "no more descriptors than before")


async def test_request_that_is_not_read_ends_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vknet.vknetd.control.ANSWER_TIMEOUT_S", 0.01)
    path = tmp_path / "vknet"
    async with serving(path) as daemon:
        long = json.dumps({**daemon.status(), "program": "x" * 1_000_000})
        monkeypatch.setattr("vknet.vknetd.control.json.dumps", lambda _: long)
        with ExitStack() as stack:
            before = open_descriptors()
            for _ in range(CONNECTIONS_MAX + 8):
                request = stack.enter_context(socket.socket(socket.AF_UNIX))
                request.setblocking(False)
                request.connect(f"{path}.ctl")
            # Only this end of each is left.
            await settle(
                lambda: open_descriptors() == before + CONNECTIONS_MAX + 8, "closed connections"
            )


def test_listeners_name_the_path_of_the_first_socket(tmp_path: Path) -> None:
    with listen_at(str(tmp_path / "vknet"), 0o660, None) as listeners:
        assert isinstance(listeners, Listeners)
        assert listeners.path == str(tmp_path / "vknet")
