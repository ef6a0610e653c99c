"""Common mistakes: the message names the argument or the path, and says what to do."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from vknet.cli.vknetd_args import parse
from vknet.errors import SetupError, UsageError
from vknet.vknetd.sockets import listen_at

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-t", "", "198.18.5.1/24"], '-t "" is neither auto, tapN, tap:NAME nor none'),
        (["-t", "br0", "198.18.5.1/24"], '-t "br0" is neither .* use -b BRIDGE'),
        (["-U", "--group", ""], '--group "" is not the name of a group'),
        (["-U", "-p", "/run/a\nb"], r'-p "/run/a\\nb": control characters'),
        (["198.18.5.255/24"], '"198.18.5.255/24" is the broadcast address of its network'),
        (["--mtu", "576", "fd00:5::1/64"], "--mtu 576: IPv6 needs at least 1280"),
    ],
)
def test_impossible_argument_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(words)


@pytest.mark.parametrize("words", [["198.18.5.255/31"], ["--mtu", "576", "198.18.5.1/24"]])
def test_argument_that_only_looks_impossible_is_accepted(words: list[str]) -> None:
    assert parse(words).secure


def test_directory_as_the_socket_path_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(SetupError, match="is a directory; name the socket in it, with -p"),
        listen_at(f"{tmp_path}/", 0o660, None),
    ):
        pass


def test_other_program_on_the_control_path_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{tmp_path}/vknet.ctl")
        other.listen()
        with (
            pytest.raises(SetupError, match=f"another program listens on {tmp_path}/vknet.ctl"),
            listen_at(f"{tmp_path}/vknet", 0o660, None),
        ):
            pass
    assert not (tmp_path / "vknet").exists()
