"""Capturing from a switch: in this process, or in a process of its own where stdout matters."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import termios
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing

from tests.support.links import ending, running
from tests.support.one_client_switch import OneClientSwitch
from tests.support.packets import ARP, arp, ethernet
from tests.support.pcap_reader import read_pcap
from vknet.capture import capture as module
from vknet.capture.capture import capture
from vknet.capture.pcap import file_header
from vknet.errors import EndpointGone, SetupError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WATCHER: Final = Path(__file__).parents[1] / "support/watcher.py"
FRAME: Final = ethernet(ARP, arp("192.0.2.5"))
LINE: Final = (
    "02:00:00:00:00:0c > 02:00:00:00:aa:01, ARP who-has 192.0.2.1 tell 192.0.2.5, length 42"
)
FILE_HEADER_BYTES: Final = 24
RECORD_BYTES: Final = 16 + 46
PIPE_BYTES: Final = 4096
"""The smallest size of a pipe: a page."""

FLOOD_FRAMES: Final = 100
"""More frames than a pipe holds when they are written, but no more than a socket holds."""

DEADLINE_S: Final = 20
"""How long a test waits for something that takes milliseconds."""


def numbered(number: int) -> bytes:
    return FRAME + number.to_bytes(4, "big")


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[OneClientSwitch]:
    with OneClientSwitch(tmp_path / "s") as switch:
        yield switch


class StartWatcher:
    """Starts watchers, each in a process of its own."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(
        self, *arguments: object, stdout: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(WATCHER), *map(str, arguments)]
        watcher = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE)
        self.started.append(watcher)
        return watcher


@pytest.fixture
def start_watcher() -> Iterator[StartWatcher]:
    start = StartWatcher()
    yield start
    for watcher in start.started:
        if watcher.poll() is None:
            watcher.kill()
        watcher.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def eventually(condition: Callable[[], bool]) -> None:
    with trio.fail_after(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the kernel changes the state, and sets no Event
            await trio.sleep(0.005)


def flood(port: socket.socket) -> None:
    """Send `FLOOD_FRAMES` frames; a receiver that is stopped gets them as one batch."""
    # A large buffer: a socket with a timeout is writable only while three quarters are free.
    port.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    for number in range(FLOOD_FRAMES):
        port.send(numbered(number))


def flood_while_stopped(watcher: subprocess.Popen[bytes], port: socket.socket) -> None:
    """Stop a watcher with SIGSTOP, flood it, and let it continue."""
    watcher.send_signal(signal.SIGSTOP)
    os.waitpid(watcher.pid, os.WUNTRACED)
    flood(port)
    watcher.send_signal(signal.SIGCONT)


async def wait_for_size(path: Path, size: int) -> None:
    """Wait until a file has this size in bytes."""
    await eventually(lambda: path.exists() and path.stat().st_size == size)


def pipe_bytes(fd: int) -> int:
    """The number of bytes in a pipe."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


# --- the output -----------------------------------------------------------------------------------


def test_frames_are_written_as_lines_until_the_switch_closes(
    start_watcher: StartWatcher, switch: OneClientSwitch
) -> None:
    watcher = start_watcher(switch.path)
    assert watcher.stdout is not None
    port = switch.accept()
    for _ in range(3):
        port.send(FRAME)
        stamp, _, line = watcher.stdout.readline().decode().partition(" ")
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{6}", stamp)
        assert line == LINE + "\n"
    switch.hang_up()
    out, errors = watcher.communicate(timeout=DEADLINE_S)
    assert (watcher.returncode, out) == (1, b"")
    assert errors.decode() == (
        f"EndpointGone: {switch.path}: the switch closed the connection:"
        " it was stopped, or accepts no more clients\n"
    )


def test_time_of_day_is_local_and_in_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()
    try:
        noon = 1_700_000_000 // 86400 * 86400 + 17 * 3600
        assert module._lines([FRAME, b""], noon + 0.789012).decode().splitlines() == [
            f"12:00:00.789012 {LINE}",
            "12:00:00.789012 cut short, length 0",
        ]
        assert module._lines([b""], noon - 1e-7).startswith(b"12:00:00.000000 ")
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_capture_replaces_the_file_and_grows_with_every_batch(
    switch: OneClientSwitch, tmp_path: Path
) -> None:
    file = tmp_path / "c.pcap"
    file.write_bytes(bytes(1000))
    before = time.time()
    async with running(partial(capture, str(switch.path), str(file))):
        await wait_for_size(file, FILE_HEADER_BYTES)
        port = switch.accept()
        for count in (1, 2, 3):
            port.send(numbered(count))
            await wait_for_size(file, FILE_HEADER_BYTES + count * RECORD_BYTES)
    found = read_pcap(file.read_bytes())
    assert [one for _, one in found] == [numbered(1), numbered(2), numbered(3)]
    moments = [before - 1e-6, *(moment for moment, _ in found), time.time() + 1e-6]
    assert moments == sorted(moments)


async def test_capture_is_readable_by_its_owner_only(
    switch: OneClientSwitch, tmp_path: Path
) -> None:
    file = tmp_path / "c.pcap"
    async with running(partial(capture, str(switch.path), str(file))):
        await wait_for_size(file, FILE_HEADER_BYTES)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_capture_on_stdout_is_written_as_frames_come_and_ends_with_a_whole_record(
    start_watcher: StartWatcher, switch: OneClientSwitch
) -> None:
    watcher = start_watcher(switch.path, "-")
    assert watcher.stdout is not None
    port = switch.accept()
    got = watcher.stdout.read(FILE_HEADER_BYTES)
    for number in (1, 2):
        port.send(numbered(number))
        got += watcher.stdout.read(RECORD_BYTES)
    watcher.terminate()
    rest, errors = watcher.communicate(timeout=DEADLINE_S)
    assert (watcher.returncode, rest, errors) == (0, b"", b"")
    assert [one for _, one in read_pcap(got)] == [numbered(1), numbered(2)]


# --- the reader of the output ends, or stops reading ----------------------------------------------


@pytest.mark.parametrize("pcap", [(), ("-",)], ids=["lines", "pcap"])
def test_capture_ends_with_the_reader_of_its_pipe_even_without_frames(
    start_watcher: StartWatcher, switch: OneClientSwitch, pcap: tuple[str, ...]
) -> None:
    watcher = start_watcher(switch.path, *pcap)
    port = switch.accept()
    assert watcher.stdout is not None
    if not pcap:
        port.send(FRAME)
    watcher.stdout.read(FILE_HEADER_BYTES)
    watcher.stdout.close()
    assert watcher.wait(timeout=DEADLINE_S) == 0
    assert watcher.communicate()[1] == b""


def test_capture_ends_when_a_write_finds_no_reader(
    start_watcher: StartWatcher, switch: OneClientSwitch
) -> None:
    # stdout is a socket, as some programs have it; only a write shows that its reader is gone.
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watcher = start_watcher(switch.path, stdout=theirs.fileno())
        port = switch.accept()
        port.send(FRAME)
        assert ours.recv(1000).endswith(LINE.encode() + b"\n")
        theirs.close()
        ours.close()
        port.send(FRAME)
        _, errors = watcher.communicate(timeout=DEADLINE_S)
    assert (watcher.returncode, errors) == (0, b"")


def test_sigterm_ends_a_capture_blocked_on_a_full_pipe(
    start_watcher: StartWatcher, switch: OneClientSwitch
) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    watcher = start_watcher(switch.path, stdout=writing)
    os.close(writing)
    port = switch.accept()
    flood_while_stopped(watcher, port)
    # A write has begun, and cannot end.
    wait_until(lambda: pipe_bytes(reading) > 0)
    watcher.terminate()
    _, errors = watcher.communicate(timeout=DEADLINE_S)
    os.close(reading)
    assert (watcher.returncode, errors) == (0, b"")


def test_sigterm_ends_a_capture_blocked_on_a_stopped_terminal(
    start_watcher: StartWatcher, switch: OneClientSwitch
) -> None:
    controller, terminal = pty.openpty()
    watcher = start_watcher(switch.path, stdout=terminal)
    port = switch.accept()
    port.send(FRAME)
    assert os.read(controller, 1000).endswith(LINE.encode() + b"\r\n")
    termios.tcflow(terminal, termios.TCOOFF)
    port.send(FRAME)
    # The watcher has received the frame.
    wait_until(lambda: unreceived_bytes(port) == 0)
    assert os.get_blocking(terminal)
    watcher.terminate()
    _, errors = watcher.communicate(timeout=DEADLINE_S)
    os.close(terminal)
    os.close(controller)
    assert (watcher.returncode, errors) == (0, b"")


def unreceived_bytes(sock: socket.socket) -> int:
    """The number of bytes sent that the peer has not received."""
    queued = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(queued, sys.byteorder)


def test_nonblocking_pipe_gets_all_frames_and_stays_nonblocking(
    start_watcher: StartWatcher,
    switch: OneClientSwitch,
) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.set_blocking(writing, False)
    watcher = start_watcher(switch.path, stdout=writing)
    port = switch.accept()
    flood_while_stopped(watcher, port)
    wait_until(lambda: pipe_bytes(reading) > 0)
    got = b""
    while got.count(b"\n") < FLOOD_FRAMES:
        got += os.read(reading, 1000)
    assert not os.get_blocking(writing)
    os.close(writing)
    watcher.terminate()
    _, errors = watcher.communicate(timeout=DEADLINE_S)
    os.close(reading)
    assert (watcher.returncode, errors) == (0, b"")
    lines = [line.split(" ", 1)[1] for line in got.decode().splitlines()]
    assert lines == [LINE.replace("length 42", "length 46")] * FLOOD_FRAMES


# --- FIFOs, which Wireshark reads -----------------------------------------------------------------


async def test_fifo_gets_only_the_frames_that_come_after_its_reader(
    switch: OneClientSwitch, fifo: Path
) -> None:
    async with ending(partial(capture, str(switch.path), str(fifo))):
        await trio.testing.wait_all_tasks_blocked()
        port = switch.accept()
        port.send(numbered(1))
        reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        await eventually(lambda: pipe_bytes(reading) == FILE_HEADER_BYTES)
        port.send(numbered(2))
        await eventually(lambda: pipe_bytes(reading) > FILE_HEADER_BYTES)
        assert [one for _, one in read_pcap(os.read(reading, 1000))] == [numbered(2)]
        # The capture ends with its reader.
        os.close(reading)


async def test_wait_for_the_reader_of_a_fifo_can_be_cancelled(
    switch: OneClientSwitch, fifo: Path
) -> None:
    async with running(partial(capture, str(switch.path), str(fifo))):
        await trio.testing.wait_all_tasks_blocked()
    # The abandoned thread opens the FIFO now, and closes it: this side reads the end of the file.
    reading = os.open(fifo, os.O_RDONLY)
    os.set_blocking(reading, True)
    assert os.read(reading, 1000) == b""
    os.close(reading)


async def fill(switch: OneClientSwitch, reading: int) -> None:
    """Make a capture block within a write."""
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    await eventually(lambda: pipe_bytes(reading) == FILE_HEADER_BYTES)
    port = switch.accept()
    flood(port)
    await eventually(lambda: pipe_bytes(reading) > FILE_HEADER_BYTES)


async def test_write_that_never_ends_is_abandoned_on_cancellation(
    switch: OneClientSwitch, fifo: Path
) -> None:
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    ended = trio.Event()
    scope = trio.CancelScope()

    async def run_capture() -> None:
        with scope:
            await capture(str(switch.path), str(fifo))
        ended.set()

    async with ending(run_capture):
        await fill(switch, reading)
        scope.cancel()
        with trio.move_on_after(module.LAST_WRITE_S + DEADLINE_S):
            await ended.wait()
        abandoned = ended.is_set()
        # Without a reader the write fails, so the test ends even if the capture waits for it.
        os.close(reading)
    assert abandoned
    assert scope.cancelled_caught


async def test_cancelled_capture_ends_with_a_whole_record(
    switch: OneClientSwitch, fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_WRITE_S", DEADLINE_S)
    ended = trio.Event()

    async def run_capture() -> None:
        try:
            await capture(str(switch.path), str(fifo))
        finally:
            ended.set()

    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_capture)
        await fill(switch, reading)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert not ended.is_set()
            os.set_blocking(reading, True)
            got = await trio.to_thread.run_sync(read_all, reading)
    os.close(reading)
    assert [one for _, one in read_pcap(got)] == [
        numbered(number) for number in range(FLOOD_FRAMES)
    ]


def read_all(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, PIPE_BYTES), b""))


# --- errors ---------------------------------------------------------------------------------------


async def test_closed_connection_raises_endpoint_gone_and_no_group(
    switch: OneClientSwitch, tmp_path: Path
) -> None:
    async def hang_up() -> None:
        await wait_for_size(tmp_path / "c", FILE_HEADER_BYTES)
        switch.accept()
        switch.hang_up()

    async with ending(hang_up):
        with pytest.raises(EndpointGone):
            await capture(str(switch.path), str(tmp_path / "c"))
    assert (tmp_path / "c").read_bytes() == file_header()


async def test_full_disk_is_reported(switch: OneClientSwitch) -> None:
    with pytest.raises(SetupError, match=r"^/dev/full: No space left on device; make room"):
        await capture(str(switch.path), "/dev/full")


def test_full_disk_behind_stdout_is_reported(
    start_watcher: StartWatcher, switch: OneClientSwitch
) -> None:
    with Path("/dev/full").open("wb") as full:
        watcher = start_watcher(switch.path, stdout=full.fileno())
        switch.accept().send(FRAME)
        _, errors = watcher.communicate(timeout=DEADLINE_S)
    assert watcher.returncode == 1
    assert errors.startswith(b"SetupError: stdout: No space left on device; make room")
    assert len(errors.splitlines()) == 1


async def test_error_on_close_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "c"
    with pytest.raises(SetupError, match=f"^{file}: cannot be written: Bad file descriptor"):
        async with module._open_output(str(file)) as output:
            os.close(output._file.fileno())


@pytest.mark.parametrize(
    ("name", "why"), [("", "Is a directory"), ("none/c", "No such file or directory")]
)
async def test_file_that_cannot_be_written_is_reported(
    switch: OneClientSwitch, tmp_path: Path, name: str, why: str
) -> None:
    file = tmp_path / name
    with pytest.raises(
        SetupError, match=f"^{file}: cannot be written: {why}; choose another file$"
    ):
        await capture(str(switch.path), str(file))


async def test_file_is_not_touched_when_there_is_no_switch(tmp_path: Path) -> None:
    file = tmp_path / "c"
    file.write_bytes(b"kept")
    with pytest.raises(SetupError, match="is vknetd running"):
        await capture(str(tmp_path / "none"), str(file))
    assert file.read_bytes() == b"kept"


def test_capture_to_a_terminal_on_stdout_is_refused(
    start_watcher: StartWatcher, tmp_path: Path
) -> None:
    controller, terminal = pty.openpty()
    watcher = start_watcher(tmp_path / "none", "-", stdout=terminal)
    _, errors = watcher.communicate(timeout=DEADLINE_S)
    os.close(controller)
    os.close(terminal)
    assert watcher.returncode == 1
    assert errors.startswith(b"UsageError: stdout is a terminal")


async def test_capture_to_a_terminal_by_its_name_is_refused(
    switch: OneClientSwitch,
) -> None:
    controller, terminal = pty.openpty()
    name = os.ttyname(terminal)
    with pytest.raises(UsageError, match=f"^{name} is a terminal"):
        await capture(str(switch.path), name)
    os.close(controller)
    os.close(terminal)
