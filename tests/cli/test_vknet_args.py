"""From argv to settings: every option, and every way to get one wrong."""

from __future__ import annotations

import shlex
from dataclasses import fields

import pytest

from vknet import __version__
from vknet.cli.vknet_args import HELP, Settings, _parser, parse_arguments
from vknet.errors import UsageError
from vknet.framing import Wire
from vknet.link.settings import LinkSettings
from vknet.spec import RetryPolicy, SocketSpec, TapSpec, Target
from vknet.transport.ssh_command import SshSettings, remote_command
from vknet.wire.keepalive import DEFAULT_TIMEOUT_S


def parse(line: str, original_command: str = "") -> Settings:
    return parse_arguments(shlex.split(line), original_command)


def ssh_of(line: str) -> SshSettings:
    ssh = parse(line).ssh
    assert ssh is not None
    return ssh


def refusal(argv: list[str]) -> str:
    with pytest.raises(UsageError) as caught:
        parse_arguments(argv)
    return str(caught.value)


def test_two_arguments_are_enough() -> None:
    assert parse("auto home:auto") == Settings(
        spec=TapSpec(None),
        bridge=None,
        mtu=None,
        link=LinkSettings(Wire.AUTO, DEFAULT_TIMEOUT_S),
        retry=None,
        ssh=SshSettings(Target(None, "home", "auto"), timeout=DEFAULT_TIMEOUT_S),
        verbosity=0,
    )


def test_the_example_of_the_manual() -> None:
    settings = parse("-r 5 -b bridge0 -B bridge1 auto myhomesystem:auto")
    assert settings.retry == RetryPolicy(5.0)
    assert settings.bridge == "bridge0"
    assert settings.ssh is not None
    assert settings.ssh.remote_bridge == "bridge1"
    assert settings.ssh.target == Target(None, "myhomesystem", "auto")


def test_two_switches_are_joined_by_their_sockets() -> None:
    settings = parse("/var/run/vknet me@home")
    assert settings.spec == SocketSpec("/var/run/vknet")
    assert settings.ssh is not None
    assert settings.ssh.target == Target("me", "home", "/var/run/vknet")


def test_every_option_of_the_client() -> None:
    settings = parse(
        "-C -r .5:3 --mtu 9000 --timeout 2.5 -e 'my ssh --x' --remote-command 'sudo -n vknet'"
        " -vv tap:lan me@[fd00::1]:tap3"
    )
    assert settings == Settings(
        spec=TapSpec("lan"),
        bridge=None,
        mtu=9000,
        link=LinkSettings(Wire.AUTO, 2.5),
        retry=RetryPolicy(0.5, 3),
        ssh=SshSettings(
            Target("me", "fd00::1", "tap3"),
            compress=True,
            command=("my", "ssh", "--x"),
            remote_vknet="sudo -n vknet",
            timeout=2.5,
            verbose=True,
        ),
        verbosity=2,
    )


def test_verbosity_adds_up() -> None:
    assert parse("-v auto h").verbosity == 1
    assert parse("-q auto h").verbosity == -1
    assert parse("-vvq auto h").verbosity == 1
    assert ssh_of("-v auto h").verbose is False


def test_options_of_ssh_are_kept_in_order_and_apart() -> None:
    ssh = ssh_of("-p 2222 -4 -i 'my key' -oA=b -o 'C=d e' -J jump -F none -6 auto home")
    assert ssh.options == (
        *("-p", "2222", "-4", "-i", "my key", "-o", "A=b", "-o", "C=d e"),
        *("-J", "jump", "-F", "none", "-6"),
    )
    assert ssh_of("auto home").options == ()


def test_one_command_line_does_not_leak_into_the_next() -> None:
    assert ssh_of("-4 -p 1 auto home").options == ("-4", "-p", "1")
    assert ssh_of("-6 auto home").options == ("-6",)


# --- the remote half ------------------------------------------------------------------------------


def test_the_remote_half_speaks_v1_to_a_client_that_left_no_mark() -> None:
    settings = parse("-S auto")
    assert settings.ssh is None
    assert settings.retry is None
    assert settings.link == LinkSettings(Wire.V1, DEFAULT_TIMEOUT_S, adopt_timeout=True)


def test_the_remote_half_finds_the_mark_among_its_arguments() -> None:
    settings = parse("-S -B wire=2 -b br0 tap0")
    assert settings.link.wire is Wire.V2
    assert settings.bridge == "br0"
    assert settings.spec == TapSpec("tap0")


def test_the_remote_half_finds_the_mark_in_what_a_forced_command_replaced() -> None:
    original = "exec vknet -S -B wire=2 -b br0 auto"
    assert parse("-S -b br1 tap0", original).link.wire is Wire.V2
    assert parse("-S -b br1 tap0", original).bridge == "br1"
    assert parse("-S tap0", "exec vknet -S -b br0 auto").link.wire is Wire.V1
    assert parse("-S tap0", "").link.wire is Wire.V1


def test_the_client_does_not_look_for_marks() -> None:
    assert parse("auto home", "exec vknet -S -B wire=2 auto").link.wire is Wire.AUTO


def test_another_value_of_b_is_ignored_as_in_2008() -> None:
    settings = parse("-S -B bridge0 /var/run/vknet")
    assert settings.link.wire is Wire.V1
    assert settings.bridge is None


def test_a_timeout_given_to_the_remote_half_is_its_own() -> None:
    assert parse("-S auto").link.adopt_timeout
    settings = parse("-S --timeout 3 -B wire=2 auto")
    assert settings.link == LinkSettings(Wire.V2, 3.0, adopt_timeout=False)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("", ["csum", "tso4", "tso6", "tso_ecn"]),
        ("--offload on", ["csum", "tso4", "tso6", "tso_ecn"]),
        ("--offload +uso", ["csum", "tso4", "tso6", "tso_ecn", "uso"]),
        ("--offload off", []),
    ],
)
def test_offloads_are_on_off_or_more_on_either_side(given: str, names: list[str]) -> None:
    assert parse(f"{given} auto home").link.offloads.names == names
    assert parse(f"-S {given} auto").link.offloads.names == names


def test_an_offload_setting_is_one_of_three() -> None:
    with pytest.raises(UsageError, match=r'--offload: "tso" is neither on, off nor \+uso'):
        parse("--offload tso auto home")


@pytest.mark.parametrize(
    ("given", "window"),
    [("", None), ("--window auto", None), ("--window off", 0), ("--window 3028", 3028)],
)
def test_a_window_is_found_out_or_given_on_either_side(given: str, window: int | None) -> None:
    assert parse(f"{given} auto home").link.window == window
    assert parse(f"-S {given} auto").link.window == window


@pytest.mark.parametrize("value", ["0", "3027", "1M", "1073741825"])
def test_a_window_out_of_range_is_refused_with_the_range(value: str) -> None:
    wanted = f'--window: "{value}" is no whole number from 3028 to 1073741824, in bytes, nor auto'
    with pytest.raises(UsageError, match=wanted):
        parse(f"--window {value} auto home")


@pytest.mark.parametrize("spec", ["auto", "tap7", "/tmp/a b;$(id)", "/it's", "tap:x+y"])
def test_the_remote_half_understands_what_the_client_has_it_run(spec: str) -> None:
    bridge = [] if spec.startswith("/") else ["-B", "br-1"]
    settings = parse_arguments([*bridge, "auto", f"me@home:{spec}"])
    assert settings.ssh is not None
    words = shlex.split(remote_command(settings.ssh))
    assert words[:2] == ["exec", "vknet"]
    remote = parse_arguments(words[2:])
    assert remote.link.wire is Wire.V2
    assert str(remote.spec) in (spec, f"tap:{spec}")
    assert remote.bridge == (bridge[-1] if bridge else None)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("-C", "-C"),
        ("-r 5", "-r"),
        ("-e ssh", "-e"),
        ("--ssh-command ssh", "-e"),
        ("--remote-command vknet", "--remote-command"),
        *((f"-{letter} 1", "an option for ssh") for letter in "FiJop"),
        ("-4", "an option for ssh"),
        ("-6", "an option for ssh"),
    ],
)
def test_the_remote_half_refuses_what_belongs_to_the_client(option: str, named: str) -> None:
    message = refusal(["-S", *option.split(), "auto"])
    assert message == f"-S does not run ssh or retry; {named} belongs to the other side"


def test_the_remote_half_takes_one_spec() -> None:
    assert '"home:auto" is one too many' in refusal(["-S", "auto", "home:auto"])


# --- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "local-spec"),
        ("auto", "[user@]host[:remote-spec] is needed"),
        ("-S", "local-spec"),
        ("auto home:auto extra", "extra"),
        ("-S auto home:auto", "one too many"),
        ("switch home", "write ./switch"),
        ("auto -- -oProxyCommand=x", 'host "-oProxyCommand=x"'),
        ("auto ''", "the host is missing"),
        ("auto home:nowhere", 'spec "nowhere"'),
        ("-b br0 /var/run/vknet home", "the local spec /var/run/vknet is a socket"),
        ("-B br0 auto home", "the remote spec /var/run/vknet is a socket"),
        ("-B '$(id)' auto home:auto", 'bridge "$(id)"'),
        ("-b a/b auto home:auto", 'bridge "a/b"'),
        ("-S -b br0 /var/run/vknet", "is a socket"),
        ("-r soon auto home", '-r "soon"'),
        ("-r 5: auto home", '-r "5:"'),
        ("-r", "-r"),
        ("--mtu 67 auto home", '"67" is no whole number from 68 to 65521'),
        ("--mtu 65522 auto home", '"65522" is no whole number'),
        ("--mtu 1500.5 auto home", '"1500.5" is no whole number'),
        ("--mtu jumbo auto home", '"jumbo" is no whole number'),
        ("--timeout 0.9 auto home", '"0.9" is no number from 1 to 86400'),
        ("--timeout nan auto home", '"nan" is no number'),
        ("--timeout inf auto home", '"inf" is no number'),
        ("--timeout '' auto home", '"" is no number'),
        ("-e '' auto home", "-e: a command is needed"),
        ("-e 'ssh \"' auto home", "No closing quotation"),
        ("--remote-command '' auto home", "one line of shell words"),
        ("--remote-command ' ' auto home", "one line of shell words"),
        ("--tim 5 auto home", "--tim"),
        ("--no-such-option auto home", "--no-such-option"),
        ("-x auto home", "-x"),
        ("-Cq=1 auto home", "-q"),
    ],
)
def test_a_usage_error_is_one_line_that_says_what_is_wrong(line: str, says: str) -> None:
    message = refusal(shlex.split(line))
    assert says in message
    assert message.isprintable()


@pytest.mark.parametrize(
    "argv",
    [
        ["auto", "home\nx"],
        ["auto", "home:/a\nb"],
        ["au\nto", "home"],
        ["-b", "a\nb", "auto", "home"],
        ["-r", "5\n", "auto", "home"],
        ["--mtu", "1\n2", "auto", "home"],
        ["--timeout", "\x1b[2J", "auto", "home"],
        ["-e", "'\n", "auto", "home"],
        ["--remote-command", "vknet\nreboot", "auto", "home"],
        ["-S", "auto", "ho\nme"],
        ["auto", "home", "ex\ntra"],
        ["--no\nsuch", "auto", "home"],
        ["-\n", "auto", "home"],
        ["\u2028", "home"],
        ["-b", "br0", "/a\u2028b", "home"],
    ],
)
def test_a_usage_error_stays_one_line_whatever_it_has_to_show(argv: list[str]) -> None:
    assert refusal(argv).isprintable()


# --- help and version -----------------------------------------------------------------------------


def test_help_fits_a_terminal_of_80_columns() -> None:
    assert max(map(len, HELP.splitlines())) <= 79
    assert HELP.isascii()


def test_help_is_what_help_prints(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("-h", "--help"):
        with pytest.raises(SystemExit) as caught:
            parse_arguments([option])
        assert caught.value.code == 0
        assert capsys.readouterr() == (HELP, "")


def test_help_knows_every_option() -> None:
    options = [option for action in _parser()._actions for option in action.option_strings]
    assert len(options) >= 20
    missing = [option for option in options if option not in HELP]
    assert missing == []


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"vknet {__version__}\n"


def test_settings_hold_nothing_but_what_was_understood() -> None:
    assert {field.name for field in fields(Settings)} == {
        *("spec", "bridge", "mtu", "link", "retry", "ssh", "verbosity")
    }
