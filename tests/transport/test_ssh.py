"""The ssh transport, with a script of the test in place of ssh."""

from __future__ import annotations

import logging
import os
import signal
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.links import running
from vknet import PeerGone, SetupError, SshDialer, SshSettings, SshTransport, Target
from vknet.transport.ssh_command import LOGIN_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from vknet.transport.base import ByteStream

# A program that answers as ssh does: -G prints a configuration, and $log is the file of -E.
PREAMBLE = """\
#!/bin/bash
for word; do
    if [ "$previous" = -E ]; then log=$word; fi
    if [ "$word" = -G ]; then printf 'hostname home\\n%s\\n' "$CONFIG"; exit; fi
    previous=$word
done
login() { echo 'Authenticated to home ([198.18.0.2]:22) using "publickey".' >>"$log"; }
"""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SshTransport]:
    """Install a script in place of ssh; create a transport that runs it."""

    def make(body: str, config: str = "", **settings: object) -> SshTransport:
        script = tmp_path / "ssh"
        script.write_text(f"{PREAMBLE}{body}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("CONFIG", config)
        return SshTransport(SshSettings(Target(None, "home"), **settings))  # type: ignore[arg-type]  # by name

    return make


def starter(nursery: trio.Nursery) -> Callable[..., None]:
    def start_soon(run: Callable[..., Awaitable[None]], *args: object) -> None:
        nursery.start_soon(run, *args)

    return start_soon


@asynccontextmanager
async def opened(transport: SshTransport) -> AsyncIterator[ByteStream]:
    """Open the transport, and close it at the end."""
    async with running() as nursery:
        with trio.fail_after(20):
            stream = await transport.open(starter(nursery))
        yield stream
        await trio.aclose_forcefully(stream)


async def line_of(stream: ByteStream) -> str:
    """Read one line; the script prints it when it has written all the rest."""
    data = b""
    with trio.fail_after(20):
        while not data.endswith(b"\n"):
            data += await stream.receive_some()
    return data.decode().strip()


async def seen(caplog: pytest.LogCaptureFixture, text: str) -> None:
    with trio.fail_after(20):
        while text not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await trio.sleep(0.01)


# --- the login ------------------------------------------------------------------------------------


async def test_login_is_noticed_after_a_banner_over_the_line_limit(
    ssh: Callable[..., SshTransport], caplog: pytest.LogCaptureFixture
) -> None:
    transport = ssh("for i in {1..400}; do echo banner >&2; done; login; cat")
    with caplog.at_level(logging.WARNING, "vknet"):
        async with opened(transport):
            with trio.fail_after(20):
                await transport.reached.wait()
    assert transport.sees_login
    assert caplog.text.count("banner") <= 200
    assert "Authenticated" not in caplog.text


async def test_login_that_others_claim_is_none(
    ssh: Callable[..., SshTransport], caplog: pytest.LogCaptureFixture
) -> None:
    claim = 'Authenticated to home ([198.18.0.2]:22) using "publickey".'
    transport = ssh(f"echo '{claim}' >&2; echo 'x {claim}' >>\"$log\"; echo said >&2; cat")
    with caplog.at_level(logging.WARNING, "vknet"):
        async with opened(transport):
            await seen(caplog, "said")
            assert not transport.reached.is_set()
    assert f"ssh: {claim}" in caplog.text


@pytest.mark.parametrize(
    "quote", ["Received disconnect from h port 22:11: x", "Unable to negotiate with h port 22: x"]
)
@pytest.mark.parametrize("end", [r"\n", r"\r\n"])
async def test_login_within_text_that_ssh_quotes_is_none(
    ssh: Callable[..., SshTransport], caplog: pytest.LogCaptureFixture, quote: str, end: str
) -> None:
    transport = ssh(f"printf '{quote}{end}' >>$log; login; echo said >>$log; cat")
    with caplog.at_level(logging.WARNING, "vknet"):
        async with opened(transport):
            await seen(caplog, "said")
    assert not transport.reached.is_set()
    assert transport._peer_address.address is None


@pytest.mark.parametrize("level", ["QUIET", "ERROR", "INFO"])
async def test_login_is_noticed_at_any_log_level_of_the_user(
    ssh: Callable[..., SshTransport], caplog: pytest.LogCaptureFixture, level: str
) -> None:
    transport = ssh('echo chatter >>"$log"; login; echo x; cat', f"loglevel {level}")
    with caplog.at_level(logging.WARNING, "vknet"):
        async with opened(transport) as stream:
            assert await line_of(stream) == "x"
            with trio.fail_after(20):
                await transport.reached.wait()
    assert ("ssh: chatter" in caplog.text) == (level == "INFO")


async def test_program_that_is_not_ssh_shows_no_login(
    ssh: Callable[..., SshTransport], tmp_path: Path
) -> None:
    ssh("echo x; cat")
    (tmp_path / "wrapper").symlink_to(tmp_path / "ssh")
    transport = SshTransport(SshSettings(Target(None, "home"), command=("wrapper",)))
    async with opened(transport) as stream:
        assert await line_of(stream) == "x"
        assert transport.reached.is_set()
        assert not transport.sees_login


async def test_ssh_that_cannot_open_the_log_file_shows_no_login(
    ssh: Callable[..., SshTransport], tmp_path: Path
) -> None:
    transport = ssh('echo "${log-none}"; cat')
    script = tmp_path / "ssh"
    script.write_text(script.read_text().replace("then log=$word", "then exit 255"))
    async with opened(transport) as stream:
        assert await line_of(stream) == "none"
        assert not transport.sees_login


@pytest.mark.parametrize(
    ("config", "timeout", "limit"),
    [
        ("", 15.0, LOGIN_TIMEOUT_S),
        ("connecttimeout 3", 15.0, LOGIN_TIMEOUT_S),
        ("connecttimeout 300", 15.0, 302.0),
        ("", 600.0, 602.0),
    ],
)
async def test_login_has_two_minutes_or_the_time_to_connect(
    config: str, timeout: float, limit: float, autojump_clock: trio.testing.MockClock
) -> None:
    from vknet.transport.ssh_config import parse_configuration

    transport = SshTransport(SshSettings(Target(None, "home"), timeout=timeout))
    transport._config = parse_configuration(f"hostname home\n{config}\n")
    with pytest.raises(PeerGone, match=f"no login to home within {limit:g} s"):
        await transport._limit_login()
    assert trio.current_time() == pytest.approx(limit)


async def test_slow_sshd_gets_the_time_of_a_login_at_the_next_attempt() -> None:
    dial = SshDialer(SshSettings(Target(None, "home"), timeout=15.0))
    first = dial()
    first._on_log("Connection timed out during banner exchange")
    second, third = dial(), dial()
    timeouts = [transport._connect_timeout for transport in (first, second, third)]
    assert timeouts == [None, LOGIN_TIMEOUT_S, None]


# --- messages -------------------------------------------------------------------------------------


async def test_messages_are_of_ssh_before_the_login_and_of_the_host_after_it(
    ssh: Callable[..., SshTransport], caplog: pytest.LogCaptureFixture
) -> None:
    transport = ssh(
        'echo a banner >&2; echo "ssh: a warning" >>"$log"; read; login; read;'
        "echo far >&2; echo near >>$log; cat"
    )
    with caplog.at_level(logging.WARNING, "vknet"):
        async with opened(transport) as stream:
            await seen(caplog, "ssh: a banner")
            await seen(caplog, "ssh: a warning")
            await stream.send_all(b"\n")
            with trio.fail_after(20):
                await transport.reached.wait()
            await stream.send_all(b"\n")
            await seen(caplog, "home: far")
            await seen(caplog, "ssh: near")


async def test_each_line_of_ssh_is_shown_once(
    ssh: Callable[..., SshTransport], caplog: pytest.LogCaptureFixture
) -> None:
    transport = ssh("echo 'ssh: Could not resolve hostname home: nothing' >>$log; exit 255")
    with caplog.at_level(logging.WARNING, "vknet"):
        async with opened(transport) as stream:
            assert await stream.receive_some() == b""
            why = await transport.why_ended()
    assert isinstance(why, PeerGone)
    assert "unknown host name (ssh: Could not resolve hostname home: nothing)" in str(why)
    assert "resolve" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        "login; echo 'bash: x: Permission denied' >&2",
        "login; echo \"Bad port 'x'\" >&2",
        "echo \"Bad port 'x'\" >&2",
        "printf 'Received disconnect from h port 22:11: x\\r\\nBad port 1\\r\\n' >>$log",
        "printf 'Received disconnect from h port 22:11: x\\nh: Permission denied' >>$log",
    ],
)
async def test_text_of_others_neither_refuses_nor_ends_the_attempts(
    ssh: Callable[..., SshTransport], body: str
) -> None:
    transport = ssh(f"{body}; exit 255")
    async with opened(transport) as stream:
        assert await stream.receive_some() == b""
        why = await transport.why_ended()
    assert type(why) is PeerGone
    assert not why.refused
    assert str(why).startswith("the connection to home broke: ")


async def test_traceback_of_the_remote_side_is_one_line(
    ssh: Callable[..., SshTransport], caplog: pytest.LogCaptureFixture
) -> None:
    transport = ssh("login; python3 -c 'import trioo' >&2; exit 1")
    with caplog.at_level(logging.WARNING, "vknet"):
        async with opened(transport) as stream:
            assert await stream.receive_some() == b""
            why = await transport.why_ended()
    assert "(ModuleNotFoundError: No module named 'trioo'); it needs Python 3.11" in str(why)
    assert not caplog.text


async def test_prompt_of_sudo_ends_the_link(ssh: Callable[..., SshTransport]) -> None:
    transport = ssh("login; printf '[sudo] password for me: ' >&2; cat", remote_vknet="sudo vknet")
    with pytest.RaisesGroup(pytest.RaisesExc(SetupError, match="add to sudoers there: ")):
        async with trio.open_nursery() as nursery:
            await transport.open(starter(nursery))
            with trio.fail_after(20):
                await trio.sleep_forever()


# --- the end --------------------------------------------------------------------------------------


async def test_cancelled_transport_leaves_no_process(ssh: Callable[..., SshTransport]) -> None:
    transport = ssh('trap "" TERM; echo $$; exec sleep 60')
    async with opened(transport) as stream:
        pid = int(await line_of(stream))
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_transport_leaves_no_descriptor(ssh: Callable[..., SshTransport]) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    for body in ("login; echo x; cat", "echo x; exit 3"):
        async with opened(ssh(body)) as stream:
            await line_of(stream)
    missing = SshTransport(SshSettings(Target(None, "home"), command=("no-such-ssh",)))
    with pytest.raises(SetupError):
        await missing.open(lambda *_: None)
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - names are enough


async def test_ssh_ignores_the_signals_that_only_vknet_handles(
    ssh: Callable[..., SshTransport],
) -> None:
    transport = ssh('login; echo "$$"; while read -r line; do echo "$line"; done')
    async with opened(transport) as stream:
        pid = int(await line_of(stream))
        os.kill(pid, signal.SIGUSR1)
        await stream.send_all(b"still here\n")
        assert await line_of(stream) == "still here"
