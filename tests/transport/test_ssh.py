"""The ssh transport, with a script of the test in place of ssh."""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.links import running
from vknet import PeerGone, SshSettings, SshTransport, Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], SshTransport]:
    """Install a script in place of ssh; create a transport that runs it."""

    def make(body: str) -> SshTransport:
        script = tmp_path / "ssh"
        script.write_text(f'#!/bin/bash\n[ "$1" = -G ] && exit\n{body}\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return SshTransport(SshSettings(Target(None, "home")))

    return make


def starter(nursery: trio.Nursery) -> Callable[..., None]:
    def start_soon(run: Callable[..., Awaitable[None]], *args: object) -> None:
        nursery.start_soon(run, *args)

    return start_soon


async def test_login_is_noticed_after_a_banner_over_the_line_limit(
    ssh: Callable[[str], SshTransport], caplog: pytest.LogCaptureFixture
) -> None:
    transport = ssh(
        "for i in {1..400}; do echo banner >&2; done; echo 'Authenticated to home' >&2; cat"
    )
    with caplog.at_level(logging.WARNING, "vknet"):
        async with running() as nursery:
            stream = await transport.open(starter(nursery))
            with trio.fail_after(20):
                await transport.reached.wait()
            await trio.aclose_forcefully(stream)
    assert transport.login_time is not None
    assert caplog.text.count("banner") <= 200
    assert "Authenticated" not in caplog.text


async def test_why_ended_gives_the_last_error_of_ssh(ssh: Callable[[str], SshTransport]) -> None:
    transport = ssh("echo 'ssh: Could not resolve hostname home: nothing' >&2; exit 255")
    async with running() as nursery:
        stream = await transport.open(starter(nursery))
        assert await stream.receive_some() == b""
        why = await transport.why_ended()
        await trio.aclose_forcefully(stream)
    assert isinstance(why, PeerGone)
    assert "unknown host name" in str(why)


async def test_cancelled_transport_leaves_no_process(ssh: Callable[[str], SshTransport]) -> None:
    transport = ssh('trap "" TERM; echo $$; exec sleep 60')
    async with running() as nursery:
        stream = await transport.open(starter(nursery))
        with trio.fail_after(20):
            pid = int(await stream.receive_some())
        os.kill(pid, 0)
    await trio.aclose_forcefully(stream)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
