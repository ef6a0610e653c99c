"""What ssh says about a host: with the real `ssh -G`."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from vknet.spec import Target
from vknet.transport import ssh_probe
from vknet.transport.ssh_command import LOGIN_TIMEOUT_S, SshSettings, ssh_argv
from vknet.transport.ssh_config import parse_configuration, probe_config, takes_probe
from vknet.transport.ssh_lines import Terminal
from vknet.transport.ssh_probe import read_configuration

if TYPE_CHECKING:
    from collections.abc import Callable

    from vknet.transport.ssh_config import SshConfig

TIMEOUT_S = 15.0


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., SshSettings]:
    """Settings with a configuration file of these lines, and more options."""

    def make(*lines: str, options: tuple[str, ...] = ()) -> SshSettings:
        file = tmp_path / "my config"
        file.write_text("".join(f"{line}\n" for line in ("Host *", *lines)))
        target = Target("me", "home", "auto")
        return SshSettings(target, options=("-F", str(file), *options), timeout=TIMEOUT_S)

    return make


async def options_for(settings: SshSettings) -> dict[str, str]:
    """Return the options that vknet adds, by name."""
    config, takes_log = await read_configuration(settings)
    assert takes_log
    argv = ssh_argv(settings, config)
    pairs = [word[2:].partition("=") for word in argv if word.startswith("-o")]
    return {key: value for key, _, value in pairs}


# --- the class of traffic -------------------------------------------------------------------------


async def test_traffic_has_the_neutral_class_by_default(
    settings: Callable[..., SshSettings],
) -> None:
    assert (await options_for(settings()))["IPQoS"] == "none"


@pytest.mark.parametrize("value", ["af21 cs1", "lowdelay throughput", "throughput", "none", "ef"])
async def test_class_of_the_configuration_is_kept(
    settings: Callable[..., SshSettings], value: str
) -> None:
    added = await options_for(settings(f"IPQoS {value}"))
    assert added.get("IPQoS") == ("none" if value == "none" else None)


async def test_class_of_the_command_line_is_kept(settings: Callable[..., SshSettings]) -> None:
    added = await options_for(settings(options=("-o", "IPQoS=lowdelay throughput")))
    assert "IPQoS" not in added


async def test_class_for_another_host_does_not_count(settings: Callable[..., SshSettings]) -> None:
    added = await options_for(settings("Host other", "IPQoS ef", "Host *", "LogLevel ERROR"))
    assert added["IPQoS"] == "none"


# --- time limits ----------------------------------------------------------------------------------


async def test_connecting_has_the_timeout(settings: Callable[..., SshSettings]) -> None:
    assert (await options_for(settings()))["ConnectTimeout"] == "15"


@pytest.mark.parametrize("lines", [("ConnectTimeout 3",), ("ProxyJump gate", "ConnectTimeout 300")])
async def test_connect_timeout_of_the_configuration_is_kept(
    settings: Callable[..., SshSettings], lines: tuple[str, ...]
) -> None:
    assert "ConnectTimeout" not in await options_for(settings(*lines))


@pytest.mark.parametrize("line", ["ProxyJump gate", "ProxyCommand nc %h %p"])
async def test_way_through_a_proxy_has_the_time_of_a_login(
    settings: Callable[..., SshSettings], line: str
) -> None:
    added = await options_for(settings(line))
    assert int(added["ConnectTimeout"]) == LOGIN_TIMEOUT_S


async def test_proxy_of_none_is_no_proxy(settings: Callable[..., SshSettings]) -> None:
    assert (await options_for(settings("ProxyJump none")))["ConnectTimeout"] == "15"


@pytest.mark.parametrize(
    ("interval", "count", "kept"),
    [(3, 2, True), (5, 2, True), (4, 3, False), (60, 3, False), (0, 3, False)],
)
async def test_probes_of_the_configuration_are_kept_if_they_notice_in_time(
    settings: Callable[..., SshSettings], interval: int, count: int, kept: bool
) -> None:
    lines = (f"ServerAliveInterval {interval}", f"ServerAliveCountMax {count}")
    added = await options_for(settings(*lines))
    assert ("ServerAliveInterval" not in added) is kept
    assert ("ServerAliveCountMax" not in added) is kept


# --- the log level --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "quiet", "logs_login"),
    [
        ("QUIET", True, False),
        ("FATAL", True, False),
        ("ERROR", True, False),
        ("INFO", False, False),
        ("VERBOSE", False, True),
        ("DEBUG2", False, True),
    ],
)
async def test_log_level_is_that_of_the_configuration(
    settings: Callable[..., SshSettings], level: str, quiet: bool, logs_login: bool
) -> None:
    given = settings(f"LogLevel {level}")
    config, _ = await read_configuration(given)
    assert config.is_quiet is quiet
    assert config.logs_login is logs_login
    argv = ssh_argv(given, config, log_file="/log")
    assert ("-oLogLevel=VERBOSE" in argv) is not logs_login


# --- other programs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "probed"),
    [
        (("ssh",), True),
        (("/usr/bin/ssh", "-v"), True),
        (("sudo", "-u", "me", "ssh"), True),
        (("sshpass", "-e", "ssh"), True),
        (("dbclient",), False),
        (("./wrapper", "x"), False),
    ],
)
def test_only_a_program_called_ssh_is_asked(command: tuple[str, ...], probed: bool) -> None:
    assert takes_probe(command) is probed


@pytest.mark.parametrize("body", ["exit 1", "echo hostname", "echo 'usage: ssh'", "exec 9<&0"])
async def test_program_that_is_not_openssh_has_no_configuration(tmp_path: Path, body: str) -> None:
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    asked = SshSettings(Target(None, "home"), command=(str(program),))
    config, takes_log = await read_configuration(asked)
    assert not config.options or "hostname" in config.options
    assert not config.default_qos
    assert takes_log == bool(config.options)


@pytest.mark.parametrize("reason", [errno.ENOSYS, errno.EPERM])
async def test_kernel_without_memory_files_leaves_the_class_of_traffic_alone(
    settings: Callable[..., SshSettings], monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(*_args: object) -> int:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "memfd_create", refuse)
    added = await options_for(settings())
    assert "IPQoS" not in added
    assert added["ConnectTimeout"] == "15"


async def test_ssh_may_log_more_than_a_pipe_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_probe, "CONFIGURATION_TIMEOUT_S", 5.0)
    program = tmp_path / "ssh"
    program.write_text(
        '#!/bin/sh\n[ "$1" != -E ] || head -c 300000 /dev/zero >>"$2"\necho hostname home\n'
    )
    program.chmod(0o755)
    asked = SshSettings(Target(None, "home"), command=(str(program),))
    config, takes_log = await read_configuration(asked)
    assert config.hostname == "home"
    assert takes_log


async def test_old_ssh_without_a_log_file_is_still_asked(tmp_path: Path) -> None:
    program = tmp_path / "ssh"
    program.write_text('#!/bin/sh\n[ "$1" != -E ] || exit 255\necho hostname home\n')
    program.chmod(0o755)
    asked = SshSettings(Target(None, "home"), command=(str(program),))
    config, takes_log = await read_configuration(asked)
    assert config.hostname == "home"
    assert not takes_log


async def test_configuration_that_never_ends_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_probe, "CONFIGURATION_TIMEOUT_S", 0.5)
    pids = tmp_path / "pids"
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\necho $$ >>{pids}\nexec sleep 100\n")
    program.chmod(0o755)
    asked = SshSettings(Target(None, "home"), command=(str(program),))
    config, takes_log = await read_configuration(asked)
    assert not config.options
    assert not takes_log
    for pid in pids.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


async def test_program_that_cannot_be_killed_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_probe, "CONFIGURATION_TIMEOUT_S", 0.5)
    left: list[trio.Process] = []

    def kill(process: trio.Process) -> None:
        left.append(process)
        raise PermissionError

    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\nexec sleep 100\n")
    program.chmod(0o755)
    asked = SshSettings(Target(None, "home"), command=(str(program),))
    with monkeypatch.context() as patch:
        patch.setattr(trio.Process, "kill", kill)
        with trio.fail_after(20):
            config, takes_log = await read_configuration(asked)
    assert not config.options
    assert not takes_log
    (process,) = left
    process.kill()
    await process.wait()


async def test_time_does_not_run_while_a_password_may_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_probe, "CONFIGURATION_TIMEOUT_S", 0.5)
    monkeypatch.setattr(Terminal, "is_asking", lambda _terminal: True)
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\nsleep 1\necho hostname home\n")
    program.chmod(0o755)
    for command, hostname in (("env", str(program)), "home"), ((str(program),), None):
        asked = SshSettings(Target(None, "home"), command=command)
        config, _ = await read_configuration(asked)
        assert config.hostname == hostname


def test_probe_reads_the_files_of_the_user() -> None:
    assert probe_config(("-4",)).startswith('Include "~/.ssh/config"\nInclude "/etc/ssh/ssh_c')
    assert probe_config(("-F", "none")) == "Match all\nIPQoS none\n"
    assert probe_config(("-F", "x")).startswith(f'Include "{Path("x").absolute()}"\nMatch')


def test_empty_output_is_an_empty_configuration() -> None:
    config: SshConfig = parse_configuration("")
    assert config.connect_timeout is None
    assert config.proxy is None
    assert not config.is_quiet
