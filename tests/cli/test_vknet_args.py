"""The command line of vknet: the settings that it gives, and its errors."""

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
    """Parse a command line that is written as for a shell."""
    return parse_arguments(shlex.split(line), original_command)


def ssh_of(line: str) -> SshSettings:
    """Return the settings for ssh that a command line of the client gives."""
    ssh = parse(line).ssh
    assert ssh is not None
    return ssh


def refusal(argv: list[str]) -> str:
    """Return the message of the usage error that a command line causes."""
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


def test_example_of_the_manual() -> None:
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


def test_verbosity_is_v_less_q() -> None:
    assert parse("-v auto h").verbosity == 1
    assert parse("-q auto h").verbosity == -1
    assert parse("-vvq auto h").verbosity == 1
    assert ssh_of("-v auto h").verbose is False


def test_options_for_ssh_keep_their_order_and_their_words() -> None:
    ssh = ssh_of("-p 2222 -4 -i 'my key' -oA=b -o 'C=d e' -J jump -F none -6 auto home")
    assert ssh.options == (
        *("-p", "2222", "-4", "-i", "my key", "-o", "A=b", "-o", "C=d e"),
        *("-J", "jump", "-F", "none", "-6"),
    )
    assert ssh_of("auto home").options == ()


def test_options_for_ssh_do_not_leak_into_the_next_command_line() -> None:
    assert ssh_of("-4 -p 1 auto home").options == ("-4", "-p", "1")
    assert ssh_of("-6 auto home").options == ("-6",)


# --- the remote half ------------------------------------------------------------------------------


def test_remote_half_speaks_v1_to_a_client_without_a_mark() -> None:
    settings = parse("-S auto")
    assert settings.ssh is None
    assert settings.retry is None
    assert settings.link == LinkSettings(Wire.V1, DEFAULT_TIMEOUT_S, adopt_timeout=True)


def test_remote_half_reads_the_mark_from_its_arguments() -> None:
    settings = parse("-S -B wire=2 -b br0 tap0")
    assert settings.link.wire is Wire.V2
    assert settings.bridge == "br0"
    assert settings.spec == TapSpec("tap0")


def test_remote_half_reads_the_mark_from_the_original_command() -> None:
    original = "exec vknet -S -B wire=2 -b br0 auto"
    assert parse("-S -b br1 tap0", original).link.wire is Wire.V2
    assert parse("-S -b br1 tap0", original).bridge == "br1"
    assert parse("-S tap0", "exec vknet -S -b br0 auto").link.wire is Wire.V1
    assert parse("-S tap0", "").link.wire is Wire.V1


@pytest.mark.parametrize(
    ("arguments", "original", "asked"),
    [
        ("-S tap0", "vknet -S -B wire=2 auto", "auto"),
        ("-S -b br0 tap0", "vknet -S -B wire=2 -b br1 tap0", "tap0 in bridge br1"),
        ("-S -b br0 tap0", "sudo -n vknet -S tap0", "tap0"),
        ("-S -b br0 tap0", "vknet -S -B wire=2 -b br0 tap0", None),
        ("-S /a", "vknet -S '/a'", None),
        ("-S tap0", "", None),
        ("-S tap0", "uptime", None),
        ("-S tap0", "vknet -S", None),
        ("-S tap0", "vknet -S 'unclosed", None),
        ("-S tap0", "vknet -S '\x1b'", "\\x1b"),
    ],
)
def test_remote_half_knows_what_a_forced_command_overrides(
    arguments: str, original: str, asked: str | None
) -> None:
    assert parse(arguments, original).asked == asked


def test_client_ignores_the_mark() -> None:
    assert parse("auto home", "exec vknet -S -B wire=2 auto").link.wire is Wire.AUTO


def test_remote_half_ignores_a_remote_bridge_as_in_2008() -> None:
    settings = parse("-S -B bridge0 /var/run/vknet")
    assert settings.link.wire is Wire.V1
    assert settings.bridge is None


def test_remote_half_keeps_a_timeout_of_its_own() -> None:
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
def test_offload_setting_applies_to_either_side(given: str, names: list[str]) -> None:
    assert parse(f"{given} auto home").link.offloads.names == names
    assert parse(f"-S {given} auto").link.offloads.names == names


def test_unknown_offload_setting_is_refused() -> None:
    with pytest.raises(UsageError, match=r'--offload: "tso" is neither on, off nor \+uso'):
        parse("--offload tso auto home")


@pytest.mark.parametrize(
    ("given", "window"),
    [("", None), ("--window auto", None), ("--window off", 0), ("--window 3028", 3028)],
)
def test_window_setting_applies_to_either_side(given: str, window: int | None) -> None:
    assert parse(f"{given} auto home").link.window == window
    assert parse(f"-S {given} auto").link.window == window


@pytest.mark.parametrize("value", ["0", "3027", "1M", "1073741825"])
def test_window_out_of_range_is_refused_with_the_range(value: str) -> None:
    message = f'--window: "{value}" is neither auto, off nor a whole number of bytes from 3028 to'
    with pytest.raises(UsageError, match=f"^{message} 1073741824$"):
        parse(f"--window {value} auto home")


@pytest.mark.parametrize("spec", ["auto", "tap7", "/tmp/a b;$(id)", "/it's", "tap:x+y"])
def test_remote_half_accepts_the_command_of_the_client(spec: str) -> None:
    bridge = [] if spec.startswith("/") else ["-B", "br-1"]
    settings = parse_arguments([*bridge, "auto", f"me@home:{spec}"])
    assert settings.ssh is not None
    words = shlex.split(remote_command(settings.ssh))
    assert words[0] == "vknet"
    remote = parse_arguments(words[1:])
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
def test_remote_half_refuses_the_options_of_the_client(option: str, named: str) -> None:
    message = refusal(["-S", *option.split(), "auto"])
    assert message == f"-S does not run ssh or retry; {named} belongs to the other side"


def test_remote_half_accepts_one_spec_only() -> None:
    assert '"home:auto" is one too many' in refusal(["-S", "auto", "home:auto"])


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "a local-spec is needed; usage: vknet [option ...] local-spec"),
        ("auto", "[user@]host[:remote-spec] is needed; did an option take it"),
        ("status", "usage: vknet [option ...] local-spec [user@]host[:remote-spec]"),
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
        ("-r", "-r needs a value: DELAY[:RETRIES]"),
        ("-r -1 auto home", '-r "-1" is not delay[:retries]'),
        ("--timeout -5 auto home", '--timeout: "-5" must be a number from 1 to 86400'),
        ("-e", "-e needs a value: CMD"),
        ("--wire", "--wire needs a value: auto or 1"),
        ("--wire 2 auto home", '--wire: "2" is neither auto nor 1'),
        ("--version=1", "--version takes no value"),
        ("--mtu 67 auto home", '"67" must be a whole number from 68 to 65521'),
        ("--mtu 65522 auto home", '"65522" must be a whole number'),
        ("--mtu 1500.5 auto home", '"1500.5" must be a whole number'),
        ("--mtu jumbo auto home", '"jumbo" must be a whole number'),
        ("--timeout 0.9 auto home", '"0.9" must be a number from 1 to 86400'),
        ("--timeout nan auto home", '"nan" must be a number'),
        ("--timeout inf auto home", '"inf" must be a number'),
        ("--timeout '' auto home", '"" must be a number'),
        ("-e '' auto home", "-e: a command is needed"),
        ("-e 'ssh \"' auto home", "No closing quotation"),
        ("--remote-command '' auto home", '--remote-command "": a command is needed, such as'),
        ("--remote-command ' ' auto home", "a command is needed, such as vknet"),
        ("--tim 5 auto home", "--tim"),
        ("--no-such-option auto home", "--no-such-option"),
        ("-x auto home", "-x"),
        ("-Cq=1 auto home", "-q takes no value"),
    ],
)
def test_usage_error_says_in_one_line_what_is_wrong(line: str, says: str) -> None:
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
def test_usage_error_stays_one_line_with_control_characters(argv: list[str]) -> None:
    assert refusal(argv).isprintable()


# --- help and version -----------------------------------------------------------------------------


def test_help_fits_a_terminal_of_80_columns() -> None:
    assert max(map(len, HELP.splitlines())) <= 79
    assert HELP.isascii()


def test_help_option_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("-h", "--help"):
        with pytest.raises(SystemExit) as caught:
            parse_arguments([option])
        assert caught.value.code == 0
        assert capsys.readouterr() == (HELP, "")


def test_help_names_every_option() -> None:
    options = [option for action in _parser()._actions for option in action.option_strings]
    assert len(options) >= 20
    missing = [option for option in options if option not in HELP]
    assert missing == []


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"vknet {__version__}\n"


def test_settings_have_parsed_values_only() -> None:
    assert {field.name for field in fields(Settings)} == {
        *("spec", "bridge", "mtu", "link", "retry", "ssh", "verbosity", "asked")
    }
