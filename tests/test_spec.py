"""The grammar of the command line: specs, targets, bridges, retries."""

from __future__ import annotations

import shlex

import pytest

from vknet.cli.vknet_args import parse_arguments
from vknet.errors import UsageError
from vknet.spec import (
    DEFAULT_SOCKET,
    RetryPolicy,
    SocketSpec,
    Spec,
    TapSpec,
    Target,
    bridge_example,
    parse_bridge,
    parse_retry,
    parse_spec,
    parse_target,
)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("auto", TapSpec(None)),
        ("tap0", TapSpec("tap0")),
        ("tap17", TapSpec("tap17")),
        ("/dev/tap3", TapSpec("tap3")),
        ("tap:office", TapSpec("office")),
        ("tap:auto", TapSpec("auto")),
        ("tap:vpn.10+a@b", TapSpec("vpn.10+a@b")),
        ("/var/run/vknet", SocketSpec("/var/run/vknet")),
        ("./auto", SocketSpec("./auto")),
        ("/dev/tap", SocketSpec("/dev/tap")),
        ("/tmp/a b;c", SocketSpec("/tmp/a b;c")),
        ("../-x", SocketSpec("../-x")),
    ],
)
def test_valid_spec_is_parsed(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; give auto, tapN"),
        ("switch", "write ./switch"),
        ("br0", "for a bridge: vknet -b br0 -B br0 auto HOST:auto; for a socket"),
        ("tap:x y", "letters, digits"),
        ("a b", "nor a path; for a socket in the working directory write ./a b"),
        ("tap", "write ./tap"),
        ("tap0x", "write ./tap0x"),
        ("tap\u0661", "write ./tap"),
        ("-r/x", "write ./-r/x"),
        ("tap:", "1 to 15 characters"),
        ("tap:..", "1 to 15 characters"),
        (f"tap:{'a' * 128}", "an alternative name up to 127"),
        (f"tap{'1' * 125}", "an alternative name up to 127"),
        ("tap:-x", "does not begin with"),
        ("tap:a/b", "letters, digits"),
        ("tap:a b", "letters, digits"),
        ("tap:a;b", "letters, digits"),
        ("/tmp/a\nb", r"/tmp/a\nb"),
        ("/tmp/a\0b", "control characters"),
        ("/tmp/\x1b[2J", "control characters"),
        ("/tmp/\udd00", "lone surrogates"),
    ],
)
def test_invalid_spec_is_a_usage_error(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["\x9b2Jm", "a\u2028b", "\udc80", "-\u2028"])
def test_unprintable_characters_are_escaped_in_the_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["auto", "tap:x", "/var/run/vknet"])
def test_spec_is_printed_as_it_was_written(text: str) -> None:
    assert str(parse_spec(text)) == text
    assert parse_spec(str(parse_spec(text))) == parse_spec(text)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("host", Target(None, "host", DEFAULT_SOCKET)),
        ("host.example.org:auto", Target(None, "host.example.org", "auto")),
        ("192.0.2.1:tap0", Target(None, "192.0.2.1", "tap0")),
        ("user@host", Target("user", "host")),
        ("user@host:/tmp/a:b@c", Target("user", "host", "/tmp/a:b@c")),
        ("user@corp@host:tap:x", Target("user@corp", "host", "tap:x")),
        ("machine$@host", Target("machine$", "host")),
        ("[fd00::1]", Target(None, "fd00::1")),
        ("root@[fe80::1%eth0]:auto", Target("root", "fe80::1%eth0", "auto")),
        ("[::ffff:192.0.2.1]:/s", Target(None, "::ffff:192.0.2.1", "/s")),
    ],
)
def test_valid_target_is_parsed(text: str, target: Target) -> None:
    assert parse_target(text) == target


def test_default_remote_spec_is_the_socket_of_vknetd() -> None:
    assert parse_target("host").spec == "/var/run/vknet"


def test_login_is_an_argument_for_ssh() -> None:
    assert parse_target("user@[fd00::1]:auto").login == "user@fd00::1"
    assert parse_target("host").login == "host"


@pytest.mark.parametrize(
    "text",
    [
        *("", "@host", "user@", ":auto", "user@:auto", "[]", "[host]", "[::1", "::1]", "[::1]x"),
        *("-oProxyCommand=id", "-l@host", "user@-host", "user@[-::1]", "user@host@"),
        *("ho st", "host;id", "host$(id)", "host`id`", "host\n", "\nhost", "us er@host", "u;@host"),
        *(
            "user/../x@host",
            "$user@host",
            "%host",
            "a//b",
            "a/./b",
            "/a",
            "a/",
            "[::1%a b]",
            "[::1;]",
        ),
        *("host:", "host:switch", "host:-S", "host:tap:-x", "host:/a\nb", "host:/a\0"),
    ],
)
def test_invalid_target_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-x", 'host "-x"'),
        ("-x@host", 'user "-x"'),
        ("a b@host", 'user "a b"'),
        ("[host]", "brackets are for IPv6 addresses only"),
        ("fd00::1", "write an IPv6 address in brackets, as in [fd00::1]:auto"),
        ("root@fd00::1", "as in root@[fd00::1]:auto"),
        ("fe80::1%eth0", "as in [fe80::1%eth0]:auto"),
        ("fd00::1:tap0", "as in [fd00::1]:tap0"),
        ("fd00::1:", "as in [fd00::1]:auto"),
        ("root@fd00::1:/tmp/s:1", "as in root@[fd00::1]:/tmp/s:1"),
        ("[::1]x", "write an IPv6 address in brackets"),
        ("host:nowhere", 'spec "nowhere"'),
    ],
)
def test_error_names_the_part_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert message in str(caught.value)


def test_tap_can_be_in_a_bridge() -> None:
    assert parse_bridge("br-lan", TapSpec(None), "local") == "br-lan"
    assert parse_bridge("bridge0", TapSpec("tap0"), "remote") == "bridge0"


@pytest.mark.parametrize(
    ("spec", "target", "example"),
    [
        ("br0", "host:br7", "vknet -b br0 -B br7 auto host:auto"),
        ("br0", "host", "vknet -b br0 -B br0 auto host:auto"),
        ("br0", "root@[fd00::1]:br0", "vknet -b br0 -B br0 auto root@[fd00::1]:auto"),
        ("br0", "[fd00::1]", "vknet -b br0 -B br0 auto [fd00::1]:auto"),
        ("br0", "host:auto", "vknet -b br0 auto host:auto"),
        ("br0", "host:tap:x", "vknet -b br0 auto host:tap:x"),
        ("tap0", "host:br0", "vknet -B br0 tap0 host:auto"),
        ("./a b", "host:br0", "vknet -B br0 './a b' host:auto"),
        ("br0", "ho;st:br0", None),
        ("br;0", "host:br0", None),
        ("br0", "host:br;0", None),
        ("tap0", "host:tap0", None),
    ],
)
def test_example_for_bridges_can_be_pasted(spec: str, target: str, example: str | None) -> None:
    assert bridge_example(spec, target) == example
    if example is not None:
        assert parse_arguments(shlex.split(example)[1:]).ssh is not None


def test_socket_cannot_be_in_a_bridge() -> None:
    with pytest.raises(UsageError, match="the remote spec /s is a socket"):
        parse_bridge("bridge0", SocketSpec("/s"), "remote")


def test_bridge_for_a_host_alone_is_explained() -> None:
    with pytest.raises(UsageError, match="HOST alone means HOST:/var/run/vknet; for a TAP write"):
        parse_bridge("bridge0", parse_spec(parse_target("host").spec), "remote")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-b", "a" * 128, "a b", "a/b", "$(id)", "b\n", "ä"]
)
def test_bridge_name_must_be_an_interface_name(name: str) -> None:
    with pytest.raises(UsageError, match="bridge") as caught:
        parse_bridge(name, TapSpec(None), "local")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("5", RetryPolicy(5.0, None)),
        ("0", RetryPolicy(0.0, None)),
        ("0.5", RetryPolicy(0.5, None)),
        (".25:3", RetryPolicy(0.25, 3)),
        ("1.:0", RetryPolicy(1.0, 0)),
        ("31536000", RetryPolicy(31536000.0, None)),
    ],
)
def test_valid_retry_is_parsed(text: str, policy: RetryPolicy) -> None:
    assert parse_retry(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", ":", ":3", "5:", "-1", "+1", "1e3", "nan", "inf", "0x10", "1_0", "5 ", "5\n"),
        *("5:-1", "5:1.5", "5:x", "5:1:2", "5:1234567890", "\u0665", "31536001", "9" * 400),
    ],
)
def test_invalid_retry_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"^-r ") as caught:
        parse_retry(text)
    assert str(caught.value).isprintable()
