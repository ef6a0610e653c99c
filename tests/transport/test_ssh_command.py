"""The command line of ssh, and the meaning of its exit."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vknet.spec import Target
from vknet.transport.ssh_command import (
    SshSettings,
    remote_command,
    ssh_argv,
)

if TYPE_CHECKING:
    from pathlib import Path

TARGET = Target("me", "home", "auto")
SETTINGS = SshSettings(TARGET)

ISOLATING = {
    "ControlMaster": "no",
    "ControlPath": "none",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "Tunnel": "no",
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
}


def given_options(argv: list[str]) -> dict[str, str]:
    """Return the -oKey=value arguments before the host."""
    pairs = [a[2:].partition("=") for a in argv[: argv.index("--")] if a.startswith("-o")]
    keys = [key for key, _, _ in pairs]
    assert len(keys) == len(set(keys))
    return {key: value for key, _, value in pairs}


def test_host_and_one_command_follow_the_options() -> None:
    argv = ssh_argv(SETTINGS)
    assert argv[0] == "ssh"
    assert argv[argv.index("--") :] == ["--", "me@home", "vknet -S -B wire=2 auto"]


def test_connection_is_not_shared_and_forwards_nothing() -> None:
    argv = ssh_argv(SETTINGS)
    assert ISOLATING.items() <= given_options(argv).items()
    options = argv[: argv.index("--")]
    assert "-x" in options
    assert "-T" in options
    assert options[options.index("-e") + 1] == "none"


def test_options_of_the_user_come_first_and_in_order() -> None:
    own = ("-F", "/etc/x", "-p", "2222", "-o", "ControlPath=/tmp/x", "-4")
    argv = ssh_argv(replace(SETTINGS, options=own, compress=True))
    assert tuple(argv[1 : 1 + len(own)]) == own
    assert argv.index("-C") > len(own)


def test_ssh_compresses_only_when_asked_to() -> None:
    assert "-C" not in ssh_argv(SETTINGS)
    argv = ssh_argv(replace(SETTINGS, compress=True))
    assert "-C" in argv[: argv.index("--")]


def test_another_ssh_program_keeps_its_options_in_front() -> None:
    argv = ssh_argv(replace(SETTINGS, command=("sshpass", "-e", "ssh"), options=("-6",)))
    assert argv[:4] == ["sshpass", "-e", "ssh", "-6"]


@pytest.mark.parametrize("timeout", [1.0, 2.5, 3.0, 4.0, 10.0, 15.0, 60.0, 86400.0])
def test_ssh_notices_a_dead_connection_within_an_interval_of_the_timeout(timeout: float) -> None:
    options = given_options(ssh_argv(replace(SETTINGS, timeout=timeout)))
    interval = int(options["ServerAliveInterval"])
    # ssh ends one interval after the last unanswered probe.
    ends_after = interval * (int(options["ServerAliveCountMax"]) + 1)
    assert interval >= 1
    assert int(options["ServerAliveCountMax"]) >= 1
    assert timeout <= ends_after <= timeout + interval
    assert timeout <= int(options["ConnectTimeout"]) < timeout + 1


def test_log_level_shows_the_login_and_more_with_verbose() -> None:
    assert given_options(ssh_argv(SETTINGS, log_file="/log"))["LogLevel"] == "VERBOSE"
    assert given_options(ssh_argv(replace(SETTINGS, verbose=True)))["LogLevel"] == "DEBUG"


def test_log_level_of_the_user_counts_where_ssh_has_no_log_file() -> None:
    assert "LogLevel" not in given_options(ssh_argv(SETTINGS))


def test_log_level_for_the_login_precedes_that_of_the_user() -> None:
    argv = ssh_argv(replace(SETTINGS, options=("-o", "LogLevel=QUIET")), log_file="/log")
    assert argv[1:6] == ["-E", "/log", "-oLogLevel=VERBOSE", "-o", "LogLevel=QUIET"]


def test_ipv6_host_is_given_without_brackets() -> None:
    argv = ssh_argv(SshSettings(Target("me", "fd00::1", "auto")))
    assert argv[-2] == "me@fd00::1"


def test_command_line_overrides_the_configuration_of_the_user(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host *\n"
        "  ControlMaster auto\n"
        "  ControlPath /tmp/never-%h\n"
        "  ControlPersist yes\n"
        "  RequestTTY force\n"
        "  RemoteCommand never\n"
        "  PermitLocalCommand yes\n"
        "  LocalForward 8080 localhost:80\n"
        "  ForwardX11 yes\n"
        "  ForwardAgent yes\n"
        "  Tunnel ethernet\n"
        "  EscapeChar ~\n"
        "  LogLevel QUIET\n"
    )
    ssh, *arguments = ssh_argv(replace(SETTINGS, options=("-F", str(config))), log_file="/dev/null")
    done = subprocess.run(
        [ssh, "-G", *arguments], capture_output=True, check=True, text=True, timeout=30
    )
    effective = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    expected = {
        "controlmaster": "false",
        "clearallforwardings": "yes",
        "forwardx11": "no",
        "forwardagent": "no",
        "tunnel": "false",
        "requesttty": "false",
        "permitlocalcommand": "no",
        "escapechar": "none",
        "loglevel": "VERBOSE",
        "user": "me",
    }
    assert {key: effective[key] for key in expected} == expected
    for unset in ("remotecommand", "controlpath", "localforward"):
        assert effective.get(unset, "none") == "none"


# --- the remote command ---------------------------------------------------------------------------


def test_remote_command_has_the_mark_and_the_bridge() -> None:
    assert remote_command(SETTINGS) == "vknet -S -B wire=2 auto"
    assert (
        remote_command(replace(SETTINGS, remote_bridge="br0")) == "vknet -S -B wire=2 -b br0 auto"
    )


def test_remote_command_of_the_user_is_used_as_shell_words() -> None:
    command = remote_command(replace(SETTINGS, remote_vknet="sudo -n vknet"))
    assert command == "sudo -n vknet -S -B wire=2 auto"


@pytest.mark.parametrize("path", ["/a b", "/a;b", "/$(id)", "/`id`", "/it's", '/"', "/a\\", "/*"])
def test_remote_spec_is_one_word_for_the_shell(path: str) -> None:
    command = remote_command(SshSettings(Target(None, "home", path)))
    assert shlex.split(command) == ["vknet", "-S", "-B", "wire=2", path]
