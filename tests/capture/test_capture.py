"""Watching a switch, in this process where it can be, in one of its own where stdout matters."""

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
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing

from tests.capture.test_pcap import read
from tests.support.one_client_switch import OneClientSwitch
from tests.support.packets import ARP, arp, ethernet
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
HEADER_SIZE: Final = 24
PAGE: Final = 4096
MANY: Final = 100
"""Frames that a socket holds at once, and that do not fit into a page when they are written."""


def frame(number: int) -> bytes:
    return FRAME + number.to_bytes(4, "big")


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[OneClientSwitch]:
    with OneClientSwitch(tmp_path / "s") as switch:
        yield switch


class Watch:
    """Starts watchers in processes of their own."""

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
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    for watcher in watch.started:
        if watcher.poll() is None:
            watcher.kill()
        watcher.communicate()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def soon(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another program
            await trio.sleep(0.005)


def flood(port: socket.socket) -> None:
    """Send more than a page holds, which is received as one batch if nobody receives meanwhile."""
    # With a timeout it is written to only while three quarters are free.
    port.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    for number in range(MANY):
        port.send(frame(number))


def flood_unnoticed(watcher: subprocess.Popen[bytes], port: socket.socket) -> None:
    """Flood a watcher that is stopped, and let it go on."""
    watcher.send_signal(signal.SIGSTOP)
    os.waitpid(watcher.pid, os.WUNTRACED)
    flood(port)
    watcher.send_signal(signal.SIGCONT)


async def grown(path: Path, size: int) -> None:
    """Wait until a file has so many bytes."""
    await soon(lambda: path.exists() and path.stat().st_size == size)


def in_pipe(fd: int) -> int:
    """How many bytes are waiting to be read."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


# --- what is written ------------------------------------------------------------------------------


def test_frames_come_as_lines_while_it_runs_until_the_switch_goes(
    watch: Watch, switch: OneClientSwitch
) -> None:
    watcher = watch(switch.path)
    assert watcher.stdout is not None
    port = switch.accept()
    for _ in range(3):
        port.send(FRAME)
        stamp, _, line = watcher.stdout.readline().decode().partition(" ")
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{6}", stamp)
        assert line == LINE + "\n"
    switch.hang_up()
    out, said = watcher.communicate(timeout=20)
    assert (watcher.returncode, out) == (1, b"")
    assert said.decode() == (
        f"EndpointGone: {switch.path}: the switch closed the connection:"
        " it was stopped, or accepts no more clients\n"
    )


def test_the_time_of_day_is_local_and_in_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_capture_replaces_the_file_and_grows_with_every_batch(
    switch: OneClientSwitch, tmp_path: Path
) -> None:
    file = tmp_path / "c.pcap"
    file.write_bytes(bytes(1000))
    before = time.time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(capture, str(switch.path), str(file))
        await grown(file, HEADER_SIZE)
        port = switch.accept()
        for count in (1, 2, 3):
            port.send(frame(count))
            await grown(file, HEADER_SIZE + count * (16 + 46))
        nursery.cancel_scope.cancel()
    found = read(file.read_bytes())
    assert [one for _, one in found] == [frame(1), frame(2), frame(3)]
    moments = [before - 1e-6, *(moment for moment, _ in found), time.time() + 1e-6]
    assert moments == sorted(moments)


async def test_a_new_capture_is_nobody_elses_to_read(
    switch: OneClientSwitch, tmp_path: Path
) -> None:
    file = tmp_path / "c.pcap"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(capture, str(switch.path), str(file))
        await grown(file, HEADER_SIZE)
        nursery.cancel_scope.cancel()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_capture_on_stdout_comes_while_it_runs_and_ends_whole(
    watch: Watch, switch: OneClientSwitch
) -> None:
    watcher = watch(switch.path, "-")
    assert watcher.stdout is not None
    port = switch.accept()
    got = watcher.stdout.read(HEADER_SIZE)
    for number in (1, 2):
        port.send(frame(number))
        got += watcher.stdout.read(16 + 46)
    watcher.terminate()
    rest, said = watcher.communicate(timeout=20)
    assert (watcher.returncode, rest, said) == (0, b"", b"")
    assert [one for _, one in read(got)] == [frame(1), frame(2)]


# --- whoever reads it goes away, or stops ---------------------------------------------------------


@pytest.mark.parametrize("pcap", [(), ("-",)], ids=["lines", "pcap"])
def test_it_ends_when_the_reader_of_a_pipe_goes_though_nothing_happens(
    watch: Watch, switch: OneClientSwitch, pcap: tuple[str, ...]
) -> None:
    watcher = watch(switch.path, *pcap)
    port = switch.accept()
    assert watcher.stdout is not None
    if not pcap:
        port.send(FRAME)
    watcher.stdout.read(HEADER_SIZE)
    watcher.stdout.close()
    assert watcher.wait(timeout=20) == 0
    assert watcher.communicate()[1] == b""


def test_it_ends_when_a_write_finds_no_reader(watch: Watch, switch: OneClientSwitch) -> None:
    # Of a socket, as some programs give for stdout, it cannot be seen before.
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watcher = watch(switch.path, stdout=theirs.fileno())
        port = switch.accept()
        port.send(FRAME)
        assert ours.recv(1000).endswith(LINE.encode() + b"\n")
        theirs.close()
        ours.close()
        port.send(FRAME)
        _, said = watcher.communicate(timeout=20)
    assert (watcher.returncode, said) == (0, b"")


def test_it_can_be_stopped_while_a_pipe_is_full(watch: Watch, switch: OneClientSwitch) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PAGE)
    watcher = watch(switch.path, stdout=writing)
    os.close(writing)
    port = switch.accept()
    flood_unnoticed(watcher, port)
    # One write has begun, and cannot end.
    until(lambda: in_pipe(reading) > 0)
    watcher.terminate()
    _, said = watcher.communicate(timeout=20)
    os.close(reading)
    assert (watcher.returncode, said) == (0, b"")


def test_it_can_be_stopped_while_a_terminal_is_stopped(
    watch: Watch, switch: OneClientSwitch
) -> None:
    controller, terminal = pty.openpty()
    watcher = watch(switch.path, stdout=terminal)
    port = switch.accept()
    port.send(FRAME)
    assert os.read(controller, 1000).endswith(LINE.encode() + b"\r\n")
    termios.tcflow(terminal, termios.TCOOFF)
    port.send(FRAME)
    # The switch's queue for it is empty again: it has the frame.
    until(lambda: in_queue(port) == 0)
    assert os.get_blocking(terminal)
    watcher.terminate()
    _, said = watcher.communicate(timeout=20)
    os.close(terminal)
    os.close(controller)
    assert (watcher.returncode, said) == (0, b"")


def in_queue(sock: socket.socket) -> int:
    """How much of what was sent has not been received."""
    waiting = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(waiting, sys.byteorder)


def test_a_pipe_that_somebody_made_nonblocking_gets_everything_and_stays_so(
    watch: Watch,
    switch: OneClientSwitch,
) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PAGE)
    os.set_blocking(writing, False)
    watcher = watch(switch.path, stdout=writing)
    port = switch.accept()
    flood_unnoticed(watcher, port)
    until(lambda: in_pipe(reading) > 0)
    got = b""
    while got.count(b"\n") < MANY:
        got += os.read(reading, 1000)
    assert not os.get_blocking(writing)
    os.close(writing)
    watcher.terminate()
    _, said = watcher.communicate(timeout=20)
    os.close(reading)
    assert (watcher.returncode, said) == (0, b"")
    lines = [line.split(" ", 1)[1] for line in got.decode().splitlines()]
    assert lines == [LINE.replace("length 42", "length 46")] * MANY


# --- FIFOs, which Wireshark reads -----------------------------------------------------------------


async def test_a_fifo_is_waited_for_and_gets_nothing_that_is_not_of_now(
    switch: OneClientSwitch, fifo: Path
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(capture, str(switch.path), str(fifo))
        await trio.testing.wait_all_tasks_blocked()
        port = switch.accept()
        port.send(frame(1))
        reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        await soon(lambda: in_pipe(reading) == HEADER_SIZE)
        port.send(frame(2))
        await soon(lambda: in_pipe(reading) > HEADER_SIZE)
        assert [one for _, one in read(os.read(reading, 1000))] == [frame(2)]
        # The end of the reader is the end.
        os.close(reading)


async def test_waiting_for_the_reader_of_a_fifo_can_be_cancelled(
    switch: OneClientSwitch, fifo: Path
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(capture, str(switch.path), str(fifo))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    # The thread that was left behind opens it now, and closes it again: that is the end of file.
    reading = os.open(fifo, os.O_RDONLY)
    os.set_blocking(reading, True)
    assert os.read(reading, 1000) == b""
    os.close(reading)


async def fill(switch: OneClientSwitch, reading: int) -> None:
    """Have a capture block in the midst of a write."""
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PAGE)
    await soon(lambda: in_pipe(reading) == HEADER_SIZE)
    port = switch.accept()
    flood(port)
    await soon(lambda: in_pipe(reading) > HEADER_SIZE)


async def test_a_write_that_never_ends_is_given_up(switch: OneClientSwitch, fifo: Path) -> None:
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(capture, str(switch.path), str(fifo))
        await fill(switch, reading)
        nursery.cancel_scope.cancel()
    os.close(reading)


async def test_a_capture_that_is_stopped_does_not_end_within_a_record(
    switch: OneClientSwitch, fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_WRITE", 20)
    ended = trio.Event()

    async def watch() -> None:
        try:
            await capture(str(switch.path), str(fifo))
        finally:
            ended.set()

    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await fill(switch, reading)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert not ended.is_set()
            os.set_blocking(reading, True)
            got = await trio.to_thread.run_sync(read_all, reading)
    os.close(reading)
    assert [one for _, one in read(got)] == [frame(number) for number in range(MANY)]


def read_all(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, PAGE), b""))


# --- what cannot be -------------------------------------------------------------------------------


async def test_a_switch_that_goes_away_is_an_ordinary_exception(
    switch: OneClientSwitch, tmp_path: Path
) -> None:
    async with trio.open_nursery() as nursery:

        async def hang_up() -> None:
            await grown(tmp_path / "c", HEADER_SIZE)
            switch.accept()
            switch.hang_up()

        nursery.start_soon(hang_up)
        with pytest.raises(EndpointGone):
            await capture(str(switch.path), str(tmp_path / "c"))
    assert (tmp_path / "c").read_bytes() == file_header()


async def test_a_full_disk_is_said(switch: OneClientSwitch) -> None:
    with pytest.raises(SetupError, match=r"^/dev/full: No space left on device; make room"):
        await capture(str(switch.path), "/dev/full")


def test_a_full_disk_behind_stdout_is_said(watch: Watch, switch: OneClientSwitch) -> None:
    with Path("/dev/full").open("wb") as full:
        watcher = watch(switch.path, stdout=full.fileno())
        switch.accept().send(FRAME)
        _, said = watcher.communicate(timeout=20)
    assert watcher.returncode == 1
    assert said.startswith(b"SetupError: stdout: No space left on device; make room")
    assert len(said.splitlines()) == 1


async def test_what_is_found_out_only_in_the_end_is_said(tmp_path: Path) -> None:
    file = tmp_path / "c"
    with pytest.raises(SetupError, match=f"^{file}: cannot be written: Bad file descriptor"):
        async with module._open_output(str(file)) as output:
            os.close(output._file.fileno())


@pytest.mark.parametrize(
    ("name", "why"), [("", "Is a directory"), ("none/c", "No such file or directory")]
)
async def test_a_file_that_cannot_be_written_is_said(
    switch: OneClientSwitch, tmp_path: Path, name: str, why: str
) -> None:
    file = tmp_path / name
    with pytest.raises(SetupError, match=f"^{file}: cannot be written: {why}; choose a file"):
        await capture(str(switch.path), str(file))


async def test_a_file_is_left_alone_when_there_is_no_switch(tmp_path: Path) -> None:
    file = tmp_path / "c"
    file.write_bytes(b"kept")
    with pytest.raises(SetupError, match="is vknetd running"):
        await capture(str(tmp_path / "nobody"), str(file))
    assert file.read_bytes() == b"kept"


def test_a_capture_is_not_written_to_a_terminal(watch: Watch, tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    watcher = watch(tmp_path / "nobody", "-", stdout=terminal)
    _, said = watcher.communicate(timeout=20)
    os.close(controller)
    os.close(terminal)
    assert watcher.returncode == 1
    assert said.startswith(b"UsageError: stdout is a terminal")


async def test_a_capture_is_not_written_to_a_terminal_by_its_name_either(
    switch: OneClientSwitch,
) -> None:
    controller, terminal = pty.openpty()
    name = os.ttyname(terminal)
    with pytest.raises(UsageError, match=f"^{name} is a terminal"):
        await capture(str(switch.path), name)
    os.close(controller)
    os.close(terminal)
