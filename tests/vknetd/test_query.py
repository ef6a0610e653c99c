"""The client of a control socket, at programs that answer oddly, late, or never."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.support.daemon import serving
from tests.support.links import running
from tests.support.vknetd import VKNETD
from vknet.errors import SetupError
from vknet.vknetd.control import BUSY
from vknet.vknetd.query import ANSWER_MAX_BYTES, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


@asynccontextmanager
async def program(
    path: Path, talk: Callable[[trio.SocketStream], Awaitable[None]]
) -> AsyncIterator[None]:
    """A program that listens on the path of a control socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{path}.ctl")
        sock.listen()

        async def handle(stream: trio.SocketStream) -> None:
            async with stream:
                await talk(stream)

        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock.dup()))
        async with running() as nursery:
            nursery.start_soon(trio.serve_listeners, handle, [listener])
            yield


def saying(answer: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(answer)

    return talk


async def test_status_of_a_daemon_is_read(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    async with serving(path) as daemon:
        status = await ask(str(path))
        assert status["socket"] == str(path)
        assert status.keys() == daemon.status().keys()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "ended before it answered"),
        (b"\n", "is not vknetd"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not vknetd"),
        (b"\xff\xfe\x00", "is not vknetd"),
        (b"{}", "it has no program"),
        (b"[]", "it is not an object"),
        (b"null", "it is not an object"),
        (b'{"seconds": 1e400}', "not finite"),
        (b'{"a": NaN}', "not finite"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not vknetd"),
        (b"[" * 100_000, "is not vknetd"),
        (b"[" * 500 + b"]" * 500, "nested too deeply"),
        (BUSY, "is busy with other requests; ask again later"),
        (b'{"busy": true, "program": 1}', "it.program is not a short text"),
    ],
    ids=range(14),
)
async def test_odd_answer_is_one_clear_line(tmp_path: Path, answer: bytes, message: str) -> None:
    path = tmp_path / "vknet"
    async with program(path, saying(answer)):
        with pytest.raises(SetupError) as caught:
            await ask(str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


async def test_endless_answer_is_cut_at_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    sent = 0

    async def flood(stream: trio.SocketStream) -> None:
        nonlocal sent
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b" " * 65536)
                sent += 65536

    async with program(path, flood):
        with pytest.raises(SetupError, match=f"longer than {ANSWER_MAX_BYTES} bytes"):
            await ask(str(path))
        await trio.testing.wait_all_tasks_blocked()
    # What the socket's buffer holds comes on top.
    assert sent < ANSWER_MAX_BYTES + 1024 * 1024


async def test_program_that_never_answers_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vknet.vknetd.query.NOTE_AFTER_S", 0.01)
    monkeypatch.setattr("vknet.vknetd.query.START_TIMEOUT_S", 0.05)
    path = tmp_path / "vknet"

    async def be_silent(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with program(path, be_silent):
        with caplog.at_level(logging.INFO), pytest.raises(SetupError) as caught:
            await ask(str(path))
    assert "does not answer within 0.05 s" in str(caught.value)
    assert f"waiting for the vknetd at {path}" in caplog.text


async def test_answer_that_drips_ends_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vknet.vknetd.query.ANSWER_TIMEOUT_S", 0.05)
    path = tmp_path / "vknet"

    async def drip(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b" ")
                await trio.sleep(0.001)

    async with program(path, drip):
        with pytest.raises(SetupError, match=r"does not answer within 0\.05 s"):
            await ask(str(path))
        await trio.testing.wait_all_tasks_blocked(0.01)


async def test_slow_start_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vknet.vknetd.query.NOTE_AFTER_S", 0.0)
    path = tmp_path / "vknet"
    async with serving(tmp_path / "other") as daemon:
        answer = json.dumps(daemon.status()).encode()
    noted = trio.Event()

    async def start(stream: trio.SocketStream) -> None:
        await noted.wait()
        await stream.send_all(answer)

    def note(*_: Any) -> None:
        noted.set()

    monkeypatch.setattr("vknet.vknetd.query.log.info", note)
    async with program(path, start):
        assert (await ask(str(path)))["program"]


async def test_full_queue_of_a_stopped_daemon_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vknet.vknetd.query.CONNECT_PAUSE_S", 0.0)
    path = tmp_path / "vknet"
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(f"{path}.ctl")
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.setblocking(False)
        waiting.connect(f"{path}.ctl")
        with pytest.raises(SetupError, match="is busy with other requests"):
            await ask(str(path))


async def test_missing_or_foreign_socket_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    with pytest.raises(SetupError, match=f"no vknetd listens on {path}; start it"):
        await ask(str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(f"{path}.ctl")
        sock.listen()
        with pytest.raises(SetupError, match=r"is not vknetd, or has just ended \(Protocol wrong"):
            await ask(str(path))


def odd_names() -> dict[str, Any]:
    """A status that is valid, with texts that a terminal or a codec cannot take."""
    traffic = {"frames": 0, "bytes": 0, "ecn_marks": 0, "drops": {"\x1b[2J": 1}}
    port = {
        "name": "client1\n\x1b]0;title\x07",
        "kind": "client",
        "bridge": None,
        "pid": None,
        "uid": None,
        "gid": None,
        "command": "\ud800 \u00e9 \u202e",
        "seconds": 1,
        "addresses": 0,
        "waiting_frames": 0,
        "waiting_bytes": 0,
        "in": traffic,
        "out": traffic,
    }
    uid = {**port, "uid": 2**32 - 1}
    return {
        "program": "vknetd \ud800",
        "pid": 1,
        "socket": "/x",
        "seconds": 1.0,
        "secure": True,
        "prefixes": ["\x00"],
        "gateways": ["\x00"],
        "roaming": ["\x00"],
        "protocols": [6],
        "clients": 1,
        "clients_max": 2,
        "clients_refused": 0,
        "ports": [port, uid],
        "table": {
            "age": 1,
            "limit": 1,
            "moves": 0,
            "evictions": 0,
            "forgeries": 0,
            "entries": [],
        },
        "outside": None,
    }


@pytest.mark.parametrize("option", ["--json", "-v"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
async def test_odd_texts_are_printed_escaped(tmp_path: Path, option: str, encoding: str) -> None:
    path = tmp_path / "vknet"
    async with program(path, saying(json.dumps(odd_names()).encode())):
        done = await trio.run_process(
            [*VKNETD, "--status", option, "-p", str(path)],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\x1b" not in done.stdout
    assert b"client1" in done.stdout


async def test_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    async with serving(path):
        with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123 - it does not block
            done = await trio.run_process(
                [*VKNETD, "--status", "-p", str(path)],
                stdout=full,
                capture_stderr=True,
                check=False,
            )
    assert done.returncode == 1
    assert done.stderr == b"vknetd: cannot write to stdout: No space left on device\n"


def test_request_can_be_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{path}.ctl")
        sock.listen()
        words = [*VKNETD, "--status", "-p", str(path)]
        with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
            try:
                sock.settimeout(60)
                connection, _ = sock.accept()
                process.terminate()
                _, stderr = process.communicate(timeout=60)
                connection.close()
            finally:
                process.kill()
    assert process.returncode == 0
    assert stderr == b"vknetd: stopped by SIGTERM\n"
