"""The meaning of the exit of ssh, and of what the remote side wrote."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from vknet.errors import PeerGone, SetupError, UsageError, VknetError
from vknet.spec import Target
from vknet.transport.ssh import under_sudo
from vknet.transport.ssh_command import STARTER, SshSettings
from vknet.transport.ssh_config import SshConfig
from vknet.transport.ssh_errors import SshExit, asks_for_password, diagnose

SETTINGS = SshSettings(Target("me", "home", "auto"))
JUMP = SshConfig({"hostname": "home", "proxyjump": "gate"})


def explained(settings: SshSettings, ended: SshExit) -> str:
    return str(diagnose(settings, ended))


@pytest.mark.parametrize(
    ("status", "stderr", "kind", "message"),
    [
        (None, [], PeerGone, "home closed the stream"),
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
            "login refused (me@home: Permission denied (publickey).); check user and key of home",
        ),
        (255, ["Too many authentication failures"], PeerGone, "name the key with -i"),
        (
            255,
            ["ssh: Could not resolve hostname home: Name or service not known"],
            PeerGone,
            "Name or service not known); check home",
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
    error = diagnose(SETTINGS, SshExit(status, stderr))
    assert type(error) is kind
    assert message in str(error)
    assert str(error).isprintable()


def test_exit_status_of_another_ssh_program_is_ambiguous() -> None:
    settings = replace(SETTINGS, command=("slogin", "-k"))
    error = diagnose(settings, SshExit(1, ["usage: slogin"]))
    assert str(error) == "slogin -k, or vknet on home, ended with status 1: usage: slogin"


def test_decisive_line_is_found_among_the_last_lines() -> None:
    stderr = ["Permission denied, please try again.", "Permission denied (publickey).", "debris"]
    error = diagnose(SETTINGS, SshExit(255, stderr))
    assert "login refused (Permission denied (publickey).)" in str(error)


def test_changed_host_key_wins_over_the_errors_that_follow_from_it() -> None:
    stderr = ["Permission denied (publickey).", "Host key verification failed."]
    assert "host key" in str(diagnose(SETTINGS, SshExit(255, stderr)))


def test_line_with_braces_is_shown_unchanged() -> None:
    assert "{host} {0}" in explained(SETTINGS, SshExit(255, ["Connection refused {host} {0}"]))


def test_error_names_the_remote_command_that_was_not_found() -> None:
    error = diagnose(replace(SETTINGS, remote_vknet="sudo -n vknet"), SshExit(127))
    assert str(error).startswith('"sudo -n vknet" was not found on home')
    assert "--remote-command" in str(error)


def test_command_to_try_by_hand_is_run_as_the_user_of_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    def message() -> str:
        lines = ["Host key verification failed."]
        return explained(SETTINGS, SshExit(255, lines, sudo=under_sudo()))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert message().endswith(": ssh me@home true")
    monkeypatch.setenv("SUDO_USER", "me")
    assert message().endswith(": sudo ssh me@home true")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert message().endswith(": ssh me@home true")


# --- the way through a jump host ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["ssh: Could not resolve hostname gate: No address", "Connection closed by U"],
            "resolve hostname gate: No address); check the jump host gate",
        ),
        (
            ["ssh: connect to host gate port 22: Connection refused"],
            "no sshd answers on the jump host gate (ssh: connect to host gate port 22",
        ),
        (
            ["me@gate: Permission denied (publickey)."],
            "check user and key of the jump host gate: ssh me@home true",
        ),
        (["Host key verification failed."], "the host key of home or of gate is not known"),
        (
            ["channel 0: open failed: connect failed: Connection refused", "stdio forwarding"],
            "home cannot be reached from gate (channel 0: open failed: connect failed: Conn",
        ),
    ],
)
def test_error_on_the_way_names_the_jump_host(lines: list[str], message: str) -> None:
    lines = [*lines, "Connection to UNKNOWN port 65535 timed out"]
    assert message in explained(SETTINGS, SshExit(255, lines, config=JUMP))


@pytest.mark.parametrize(
    "line",
    [
        "Connection closed by UNKNOWN port 65535",
        "Connection to UNKNOWN port 65535 timed out",
        "ssh_dispatch_run_fatal: Connection to UNKNOWN port 65535: Broken pipe",
    ],
)
def test_unknown_port_is_never_shown(line: str) -> None:
    for lines in ([line], [line, line]):
        text = explained(SETTINGS, SshExit(255, lines, config=JUMP))
        assert "UNKNOWN" not in text
        assert "the jump host or proxy" in text


def test_address_of_the_host_in_the_configuration_is_not_a_jump_host() -> None:
    config = SshConfig({"hostname": "198.18.0.2", "proxyjump": "gate"})
    lines = ["ssh: connect to host 198.18.0.2 port 22: Connection refused"]
    assert "no sshd answers on home (" in explained(SETTINGS, SshExit(255, lines, config=config))


def test_slow_sshd_is_told_from_an_unreachable_host() -> None:
    lines = ["Connection timed out during banner exchange", "Connection to home port 22 timed out"]
    assert "-o ConnectTimeout=120" in explained(SETTINGS, SshExit(255, lines))


# --- the remote command ---------------------------------------------------------------------------


def test_status_0_of_a_link_that_was_up_is_its_end() -> None:
    error = diagnose(SETTINGS, SshExit(0, ["Bye."], answered=True))
    assert type(error) is PeerGone
    assert str(error) == "home ended the link"


def test_status_0_without_an_answer_asks_whether_that_was_vknet() -> None:
    text = explained(replace(SETTINGS, remote_vknet="true"), SshExit(0))
    assert text.startswith('"true" on home ended without an answer; is it vknet?')
    assert "forced command" in text


@pytest.mark.parametrize(
    "line",
    [
        "sudo: a password is required",
        "sudo: a terminal is required to read the password; either use the -S option to read from",
        "sudo: no tty present and no askpass program specified",
        "sudo: sorry, you must have a tty to run sudo",
        "sudo: 3 incorrect password attempts",
        "[sudo] password for me: ",
        "[sudo] Passwort für me: ",
    ],
)
def test_sudo_that_wants_a_password_gets_a_line_for_sudoers(line: str) -> None:
    settings = replace(SETTINGS, remote_vknet="sudo -n /opt/vknet", remote_bridge="br0")
    assert asks_for_password(line)
    error = diagnose(settings, SshExit(1, ["a lecture", line]))
    assert type(error) is SetupError
    assert str(error).endswith(
        r"sudoers there: me ALL = (root) NOPASSWD: /opt/vknet -S -B wire\=2 -b br0 auto"
    )


def test_line_for_sudoers_has_the_user_of_the_configuration_and_a_path() -> None:
    settings = SshSettings(Target(None, "home", "/run/a b:1,2"), remote_vknet="sudo vknet")
    config = SshConfig({"hostname": "home", "user": "joe"})
    text = explained(settings, SshExit(1, ["sudo: a password is required"], config=config))
    assert text.endswith(
        r"joe ALL = (root) NOPASSWD: /usr/local/bin/vknet -S -B wire\=2 /run/a\ b\:1\,2"
    )


def test_doas_that_wants_a_password_gets_a_line_for_its_configuration() -> None:
    settings = replace(SETTINGS, remote_vknet="doas vknet")
    text = explained(settings, SshExit(1, ["doas: Authorization required"]))
    assert "permit nopass me cmd /usr/local/bin/vknet args -S -B wire=2 auto" in text


@pytest.mark.parametrize("line", ["vknet: a password is required", "x [sudo] y", "sudo"])
def test_other_lines_are_no_question_for_a_password(line: str) -> None:
    assert not asks_for_password(line)


def test_vknet_that_sudo_does_not_find_needs_a_path() -> None:
    text = explained(SETTINGS, SshExit(1, ["sudo: vknet: command not found"]))
    assert "give --remote-command the path of vknet there" in text


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (127, "rbash: /usr/bin/vknet: restricted: cannot specify `/' in command names"),
        (1, "rbash: line 1: exec: restricted"),
    ],
)
def test_restricted_shell_is_named(status: int, line: str) -> None:
    text = explained(SETTINGS, SshExit(status, [line]))
    assert "the login shell of home is restricted" in text


@pytest.mark.parametrize(
    ("raised", "python", "message"),
    [
        ("ModuleNotFoundError: No module named 'trio'", None, "lacks the Python package trio"),
        ("ModuleNotFoundError: No module named 'pyroute2'", "3.12", "lacks the Python package pyr"),
        ("SyntaxError: invalid syntax", "2.7", "does not start with Python 2.7 (SyntaxError: "),
        ("ImportError: cannot import name 'x'", "3.9", "it needs Python 3.11 or later"),
    ],
)
def test_far_side_that_does_not_start_is_told_what_it_needs(
    raised: str, python: str | None, message: str
) -> None:
    ended = SshExit(1, [raised], raised=raised, python=python)
    assert message in explained(SETTINGS, ended)


def test_reason_of_vknet_comes_before_an_exception_of_another_program() -> None:
    lines = ["ValueError: of a start-up file", "vknet: no TAP here"]
    text = explained(SETTINGS, SshExit(1, lines, raised=lines[0]))
    assert text == "vknet on home ended with status 1: no TAP here"


def test_old_python_that_the_far_side_names_itself_is_passed_on() -> None:
    line = "vknet: Python 3.11 or later is needed, and this is 3.9.18 (/usr/bin/python3)"
    text = explained(SETTINGS, SshExit(1, [line]))
    assert text.endswith(f"status 1: {line.removeprefix('vknet: ')}")


# --- another program in place of ssh --------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("WARNING: Ignoring unknown option -x", "-x"),
        ("dbclient: Ignoring unknown configuration option 'ControlMaster=no'", "ControlMaster=no"),
        ("myssh: invalid option -- 'T'", "T"),
        ("unrecognized option '--x'", "--x"),
    ],
)
@pytest.mark.parametrize("status", [0, 1])
def test_option_that_another_ssh_does_not_take_is_named(
    line: str, option: str, status: int
) -> None:
    settings = replace(SETTINGS, command=("dbclient",))
    error = diagnose(settings, SshExit(status, [line, "Dropbear v2022.83"]))
    assert type(error) is UsageError
    assert str(error).startswith(f"dbclient does not take the option {option} ({line})")


def test_option_that_the_remote_command_refuses_is_no_error_of_ssh() -> None:
    error = diagnose(SETTINGS, SshExit(1, ["sudo: invalid option -- 'Q'"]))
    assert type(error) is SetupError


# --- whose lines count ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "Bad port '99999999'",
        "usage: ssh [-46AaCfGgKkMNnqsTtVvXxYy] [-B bind_interface]",
        "command-line: line 0: Bad configuration option: foo",
        "command-line line 0: Bad port 'x'.",
        "Can't open user config file /x: No such file or directory",
        "/home/me/my config: line 2: Bad configuration option: foo",
        "/home/me/my config: terminating, 1 bad configuration options",
        "jumphost loop via home",
    ],
)
def test_options_that_ssh_refuses_are_an_error_of_usage_unless_it_accepted_them(line: str) -> None:
    assert type(diagnose(SETTINGS, SshExit(255, [line]))) is UsageError
    for ended in (
        SshExit(255, [line], own=[line], accepted=True),
        SshExit(255, [line], answered=True),
        SshExit(255, [line], own=[]),
        SshExit(255, [f"Received disconnect from 198.18.0.2 port 22:11: {line}"]),
    ):
        assert type(diagnose(SETTINGS, ended)) is PeerGone


def test_usage_of_another_program_is_none_of_ssh() -> None:
    assert type(diagnose(SETTINGS, SshExit(255, ["usage: ssh-add [-cDdKkL]"]))) is PeerGone


def test_message_of_the_remote_side_is_no_refused_login() -> None:
    said = "bash: /etc/profile.d/x: Permission denied"
    error = diagnose(SETTINGS, SshExit(255, [said], own=["Connection to home closed."]))
    assert str(error) == f"the connection to home broke: {said}"
    assert not error.refused


def test_only_too_many_failures_count_among_the_reasons_of_a_disconnect() -> None:
    start = "Received disconnect from 198.18.0.2 port 22:2: "
    many = explained(SETTINGS, SshExit(255, [f"{start}Too many authentication failures"]))
    assert many.endswith("name the key with -i")
    other = explained(SETTINGS, SshExit(255, [f"{start}me@home: Permission denied"]))
    assert other.startswith("the connection to home broke: Received disconnect")
