"""The remote half on a stdin and stdout of the tests' own, as another program would start it."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.blocks import feed
from tests.support.one_client_switch import OneClientSwitch
from vknet import Wire
from vknet.framing import (
    Bye,
    encode_control,
    encode_frames,
)
from vknet.wire.decoder import Decoder
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.blocks import Item

VKNET = (sys.executable, "-m", "vknet")
FRAME = bytes(range(60))


class Client:
    """The other end of the remote half's stdin and stdout, which are one socket."""

    def __init__(self) -> None:
        self.sock, self.theirs = socket.socketpair()
        self.sock.settimeout(20)
        self._decoder = Decoder(Wire.V2)
        self._blocks: list[Item] = []

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*VKNET, "-S", *arguments],
            stdin=self.theirs.fileno(),
            stdout=self.theirs.fileno(),
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )

    def next(self) -> Item | None:
        """The next block; None at the end of the stream."""
        while not self._blocks:
            data = self.sock.recv(65536)
            if not data:
                self._decoder.end()
                return None
            feed(self._decoder, data, self._blocks)
        return self._blocks.pop(0)

    def close(self) -> None:
        self.sock.close()
        self.theirs.close()


def hello() -> bytes:
    return encode_control(Hello("test", "x", 65664, None, mtu_fixed=False, timeout=15.0))


@pytest.mark.parametrize("blocking", [True, False])
def test_a_shared_stdin_and_stdout_get_their_blocking_flag_back(
    tmp_path: Path, blocking: bool
) -> None:
    client = Client()
    client.theirs.setblocking(blocking)
    with OneClientSwitch(tmp_path / "s") as switch:
        half = client.start("-B", "wire=2", str(tmp_path / "s"))
        port = switch.accept()
        assert isinstance(client.next(), Hello)
        client.sock.sendall(hello() + encode_frames([FRAME], 8320).data)
        assert port.recv(2000) == FRAME
        assert os.get_blocking(client.theirs.fileno()) is False, "while it runs"
        half.terminate()
        assert client.next() == Bye("it was stopped")
        _, said = half.communicate(timeout=20)
    assert half.returncode == 0
    assert said == b""
    assert os.get_blocking(client.theirs.fileno()) is blocking
    client.close()


def test_under_a_forced_command_the_mark_is_found_in_what_the_client_asked_for(
    tmp_path: Path,
) -> None:
    client = Client()
    with OneClientSwitch(tmp_path / "s") as switch:
        asked = {"SSH_ORIGINAL_COMMAND": "exec vknet -S -B wire=2 -b bridge0 auto"}
        half = client.start(str(tmp_path / "s"), env=asked)
        switch.accept()
        assert isinstance(client.next(), Hello)
        client.close()
        half.communicate(timeout=20)
    assert half.returncode == 1


def test_an_endpoint_that_cannot_be_opened_is_said_to_the_client_alone(tmp_path: Path) -> None:
    client = Client()
    half = client.start("-B", "wire=2", str(tmp_path / "nobody"))
    bye = client.next()
    assert isinstance(bye, Bye)
    assert "is vknetd running?" in bye.reason
    _, said = half.communicate(timeout=20)
    assert (half.returncode, said) == (1, b"")
    client.close()


def test_a_client_of_2008_reads_it_on_stderr(tmp_path: Path) -> None:
    client = Client()
    half = client.start(str(tmp_path / "nobody"))
    _, said = half.communicate(timeout=20)
    assert half.returncode == 1
    assert said.startswith(b"vknet: ")
    assert b"is vknetd running?" in said
    assert len(said.splitlines()) == 1
    client.close()


def test_a_client_that_is_gone_before_it_can_be_told_is_no_traceback(tmp_path: Path) -> None:
    client = Client()
    client.sock.close()
    half = client.start("-B", "wire=2", str(tmp_path / "nobody"))
    _, said = half.communicate(timeout=20)
    assert (half.returncode, said) == (1, b"")
    client.theirs.close()


def test_a_terminal_is_not_a_link() -> None:
    controller, terminal = pty.openpty()
    half = subprocess.run(
        [*VKNET, "-S", "/nobody"], stdin=terminal, stdout=terminal, stderr=subprocess.PIPE
    )
    os.close(controller)
    os.close(terminal)
    assert half.returncode == 2
    assert b"started by ssh, not by hand" in half.stderr
    assert len(half.stderr.splitlines()) == 1


@pytest.mark.parametrize("useless", ["0>/dev/null", "1</dev/null"])
def test_a_stdin_that_cannot_be_read_or_a_stdout_not_written_is_said(useless: str) -> None:
    command = f'"$0" -m vknet -S /nobody {useless}'
    half = subprocess.run(
        ["sh", "-c", command, sys.executable],
        stdin=subprocess.PIPE,
        capture_output=True,
        check=False,
    )
    assert half.returncode == 2
    assert b"a stdin to read from and a stdout to write to" in half.stderr
    assert len(half.stderr.splitlines()) == 1


def test_a_usage_error_without_a_stderr_does_not_go_to_the_link() -> None:
    half = subprocess.run(
        ["sh", "-c", '"$0" -m vknet -S "bad spec" 2>&-', sys.executable],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        check=False,
    )
    assert (half.returncode, half.stdout) == (2, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_a_remote_half_without_stdin_or_stdout_says_so(closed: str) -> None:
    command = f'"$0" -m vknet -S /nobody {closed}'
    half = subprocess.run(
        ["sh", "-c", command, sys.executable], stderr=subprocess.PIPE, check=False
    )
    assert half.returncode == 2
    assert half.stderr == b"vknet: -S needs stdin and stdout: they are the link\n"
