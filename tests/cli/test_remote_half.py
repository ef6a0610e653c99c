"""The remote half with a test as its client, on the other end of its stdin and stdout."""

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

# The time for an answer, and for a process to end.
TIMEOUT_S = 20


class Client:
    """The other end of the remote half's stdin and stdout, which are one socket.

    Attributes:
        sock: this end.
        theirs: the end of the remote half.
    """

    def __init__(self) -> None:
        self.sock, self.theirs = socket.socketpair()
        self.sock.settimeout(TIMEOUT_S)
        self._decoder = Decoder(Wire.V2)
        self._blocks: list[Item] = []

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the remote half, with these arguments and additions to the environment."""
        return subprocess.Popen(
            [*VKNET, "-S", *arguments],
            stdin=self.theirs.fileno(),
            stdout=self.theirs.fileno(),
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )

    def next(self) -> Item | None:
        """Receive the next block; None at the end of the stream."""
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
def test_blocking_flag_of_a_shared_stdin_and_stdout_is_restored(
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
        assert os.get_blocking(client.theirs.fileno()) is False, "while the remote half runs"
        half.terminate()
        assert client.next() == Bye("it was stopped")
        _, stderr = half.communicate(timeout=TIMEOUT_S)
    assert half.returncode == 0
    assert stderr == b""
    assert os.get_blocking(client.theirs.fileno()) is blocking
    client.close()


def test_forced_command_reads_the_mark_from_the_original_command(
    tmp_path: Path,
) -> None:
    client = Client()
    with OneClientSwitch(tmp_path / "s") as switch:
        original = {"SSH_ORIGINAL_COMMAND": "exec vknet -S -B wire=2 -b bridge0 auto"}
        half = client.start(str(tmp_path / "s"), env=original)
        switch.accept()
        assert isinstance(client.next(), Hello)
        client.close()
        _, stderr = half.communicate(timeout=TIMEOUT_S)
    assert half.returncode == 1
    assert b"the client asked for auto in bridge bridge0" in stderr


def test_home_in_the_spec_is_that_of_the_remote_half(tmp_path: Path) -> None:
    client = Client()
    with OneClientSwitch(tmp_path / "s") as switch:
        half = client.start("-B", "wire=2", "~/s", env={"HOME": str(tmp_path)})
        switch.accept()
        assert isinstance(client.next(), Hello)
        client.close()
        half.communicate(timeout=TIMEOUT_S)


def test_endpoint_error_goes_to_the_client_only(tmp_path: Path) -> None:
    client = Client()
    half = client.start("-B", "wire=2", str(tmp_path / "no-such-socket"))
    bye = client.next()
    assert isinstance(bye, Bye)
    assert "is vknetd running?" in bye.reason
    _, stderr = half.communicate(timeout=TIMEOUT_S)
    assert (half.returncode, stderr) == (1, b"")
    client.close()


def test_endpoint_error_goes_to_stderr_for_a_v1_client(tmp_path: Path) -> None:
    client = Client()
    half = client.start(str(tmp_path / "no-such-socket"))
    _, stderr = half.communicate(timeout=TIMEOUT_S)
    assert half.returncode == 1
    assert stderr.startswith(b"vknet: ")
    assert b"is vknetd running?" in stderr
    assert len(stderr.splitlines()) == 1
    client.close()


def test_endpoint_error_without_a_client_gives_no_traceback(tmp_path: Path) -> None:
    client = Client()
    client.sock.close()
    half = client.start("-B", "wire=2", str(tmp_path / "no-such-socket"))
    _, stderr = half.communicate(timeout=TIMEOUT_S)
    assert (half.returncode, stderr) == (1, b"")
    client.theirs.close()


def test_terminal_is_refused() -> None:
    controller, terminal = pty.openpty()
    half = subprocess.run(
        [*VKNET, "-S", "/no-such-socket"], stdin=terminal, stdout=terminal, stderr=subprocess.PIPE
    )
    os.close(controller)
    os.close(terminal)
    assert half.returncode == 2
    assert b"started by ssh, not by hand" in half.stderr
    assert len(half.stderr.splitlines()) == 1


@pytest.mark.parametrize("redirection", ["0>/dev/null", "1</dev/null"])
def test_unusable_stdin_or_stdout_is_refused(redirection: str) -> None:
    command = f'"$0" -m vknet -S /no-such-socket {redirection}'
    half = subprocess.run(
        ["sh", "-c", command, sys.executable],
        stdin=subprocess.PIPE,
        capture_output=True,
        check=False,
    )
    assert half.returncode == 2
    assert b"a stdin to read from and a stdout to write to" in half.stderr
    assert len(half.stderr.splitlines()) == 1


def test_usage_error_without_a_stderr_does_not_go_to_the_link() -> None:
    half = subprocess.run(
        ["sh", "-c", '"$0" -m vknet -S "bad spec" 2>&-', sys.executable],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        check=False,
    )
    assert (half.returncode, half.stdout) == (2, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_closed_stdin_or_stdout_is_refused(closed: str) -> None:
    command = f'"$0" -m vknet -S /no-such-socket {closed}'
    half = subprocess.run(
        ["sh", "-c", command, sys.executable], stderr=subprocess.PIPE, check=False
    )
    assert half.returncode == 2
    assert half.stderr == b"vknet: -S needs stdin and stdout: they are the link\n"
