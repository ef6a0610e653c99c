"""The command line of ssh, and the meaning of its exit."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vknet.errors import PeerGone, SetupError, VknetError
from vknet.spec import Target
from vknet.transport.ssh import SshDialer, SshTransport, under_sudo
from vknet.transport.ssh_command import (
    STARTER,
    SshSettings,
    diagnose,
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
    assert argv[argv.index("--") :] == ["--", "me@home", "exec vknet -S -B wire=2 auto"]


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
    assert given_options(ssh_argv(SETTINGS))["LogLevel"] == "VERBOSE"
    assert given_options(ssh_argv(replace(SETTINGS, verbose=True)))["LogLevel"] == "DEBUG"


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
    ssh, *arguments = ssh_argv(replace(SETTINGS, options=("-F", str(config))))
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
    assert remote_command(SETTINGS) == "exec vknet -S -B wire=2 auto"
    assert (
        remote_command(replace(SETTINGS, remote_bridge="br0"))
        == "exec vknet -S -B wire=2 -b br0 auto"
    )


def test_remote_command_of_the_user_is_used_as_shell_words() -> None:
    command = remote_command(replace(SETTINGS, remote_vknet="sudo -n vknet"))
    assert command == "exec sudo -n vknet -S -B wire=2 auto"


@pytest.mark.parametrize("path", ["/a b", "/a;b", "/$(id)", "/`id`", "/it's", '/"', "/a\\", "/*"])
def test_remote_spec_is_one_word_for_the_shell(path: str) -> None:
    command = remote_command(SshSettings(Target(None, "home", path)))
    assert shlex.split(command) == ["exec", "vknet", "-S", "-B", "wire=2", path]


# --- the meaning of the exit ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "stderr", "kind", "message"),
    [
        (None, [], PeerGone, "home closed the stream"),
        (0, ["Bye."], PeerGone, "home ended the link"),
        (-9, [], PeerGone, "ssh was killed by SIGKILL"),
        (-15, ["x"], PeerGone, "ssh was killed by SIGTERM"),
        (127, ["sh: 1: vknet: not found"], SetupError, '"vknet" was not found on home; install'),
        (126, ["sh: vknet: Permission denied"], SetupError, "may not be executed: sh: vknet: Per"),
        (126, [], SetupError, '"vknet" on home may not be executed'),
        (127, [f"{STARTER}: 1: exec: /x: not found"], SetupError, "cannot run ssh: not found"),
        (3, [f"{STARTER}: 0: getcwd() failed"], SetupError, "status 3 and no message"),
        (1, ["no TAP here"], SetupError, "vknet on home ended with status 1: no TAP here"),
        (2, [], SetupError, "vknet on home ended with status 2 and no message"),
        (255, [], PeerGone, "the connection to home broke"),
        (255, ["one", "two"], PeerGone, "the connection to home broke: two"),
        (255, ["Host key verification failed."], PeerGone, "check it by hand: ssh me@home true"),
        (
            255,
            ["me@home: Permission denied (publickey)."],
            PeerGone,
            "login refused (me@home: Permission denied (publickey).); check user and key",
        ),
        (255, ["Too many authentication failures"], PeerGone, "name the key with -i"),
        (
            255,
            ["ssh: Could not resolve hostname home: Name or service not known"],
            PeerGone,
            "Name or service not known); check home and its jump hosts",
        ),
        (255, ["connect to host home: Connection refused"], PeerGone, "no sshd answers on home"),
        (255, ["Timeout, server home not responding."], PeerGone, "home has fallen silent"),
        (255, ["connect: Connection timed out"], PeerGone, "home cannot be reached (connect"),
        (255, ["connect: No route to host"], PeerGone, "home cannot be reached (connect"),
        (255, ["connect: Network is unreachable"], PeerGone, "home cannot be reached (connect"),
    ],
)
def test_exit_of_ssh_is_explained(
    status: int | None, stderr: list[str], kind: type[VknetError], message: str
) -> None:
    error = diagnose(SETTINGS, status, stderr)
    assert type(error) is kind
    assert message in str(error)
    assert str(error).isprintable()


def test_exit_status_of_another_ssh_program_is_ambiguous() -> None:
    settings = replace(SETTINGS, command=("slogin", "-k"))
    error = diagnose(settings, 1, ["usage: slogin"])
    assert str(error) == "slogin -k, or vknet on home, ended with status 1: usage: slogin"


def test_decisive_line_is_found_among_the_last_lines() -> None:
    stderr = ["Permission denied, please try again.", "Permission denied (publickey).", "debris"]
    error = diagnose(SETTINGS, 255, stderr)
    assert "login refused (Permission denied (publickey).)" in str(error)


def test_changed_host_key_wins_over_the_errors_that_follow_from_it() -> None:
    stderr = ["Permission denied (publickey).", "Host key verification failed."]
    assert "host key" in str(diagnose(SETTINGS, 255, stderr))


def test_line_with_braces_is_shown_unchanged() -> None:
    assert "{host} {0}" in str(diagnose(SETTINGS, 255, ["Connection refused {host} {0}"]))


def test_error_names_the_remote_command_that_was_not_found() -> None:
    error = diagnose(replace(SETTINGS, remote_vknet="sudo -n vknet"), 127, [])
    assert str(error).startswith('"sudo -n vknet" was not found on home')
    assert "--remote-command" in str(error)


def test_connect_timeout_after_a_loss_follows_the_time_of_the_last_login() -> None:
    dial = SshDialer(SshSettings(Target(None, "home"), timeout=15.0))
    timeouts = []
    for login_time in (None, None, 0.2, None, None, None, 2.0, 9.0, None):
        transport = dial()
        timeouts.append(connect_timeout_of(transport))
        transport.login_time = login_time
    timeouts.append(connect_timeout_of(dial()))
    # No login yet: 15.  After one in 0.2 s: 4, and 15 for the third attempt.  Then 2 s, then 9 s.
    assert timeouts == [15, 15, 15, 4, 4, 15, 4, 8, 15, 15]


def connect_timeout_of(transport: SshTransport) -> int:
    argv = ssh_argv(transport._settings, connect_timeout=transport._connect_timeout)
    (option,) = [word for word in argv if word.startswith("-oConnectTimeout=")]
    return int(option.removeprefix("-oConnectTimeout="))


def test_command_to_try_by_hand_is_run_as_the_user_of_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    def message() -> str:
        lines = ["Host key verification failed."]
        return str(diagnose(SETTINGS, 255, lines, sudo=under_sudo()))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert message().endswith(": ssh me@home true")
    monkeypatch.setenv("SUDO_USER", "me")
    assert message().endswith(": sudo ssh me@home true")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert message().endswith(": ssh me@home true")
