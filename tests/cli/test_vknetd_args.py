"""vknetd's command line: what it means, and what is said of what it cannot mean."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from vknet.cli.vknetd_args import HELP, Action, parse
from vknet.errors import UsageError
from vknet.spec import TapSpec


def test_the_least_that_makes_a_switch() -> None:
    settings = parse(["198.18.5.1/24"])
    assert settings.action is Action.SWITCH
    assert settings.path == "/var/run/vknet"
    assert settings.tap == TapSpec(None)
    assert settings.interfaces == (ip_interface("198.18.5.1/24"),)
    assert settings.secure
    assert not settings.foreground
    assert (settings.mode, settings.group) == (0o660, None)
    assert (settings.age, settings.clients) == (300, 256)


def test_everything_at_once() -> None:
    words = "-dvb bridge0 -p ./s -t tap7 198.18.5.1/24 fd00:5::1/64 --mode 0666 --group kvm"
    words += " --age 60 --clients 9 --mtu 1400"
    settings = parse(words.split(" "))
    assert settings.foreground
    assert settings.bridge == "bridge0"
    assert settings.path == "./s"
    assert settings.tap == TapSpec("tap7")
    assert [str(i) for i in settings.interfaces] == ["198.18.5.1/24", "fd00:5::1/64"]
    assert (settings.mode, settings.group, settings.mtu) == (0o666, "kvm", 1400)
    assert (settings.age, settings.clients, settings.verbosity) == (60, 9, 1)


def test_a_plain_switch_needs_no_prefix_and_may_have_an_address() -> None:
    assert not parse(["-U"]).secure
    assert not parse(["-U", "198.18.5.1/24"]).secure


def test_a_switch_without_a_tap_is_neither_secure_nor_in_need_of_a_prefix() -> None:
    settings = parse(["-t", "none"])
    assert settings.tap is None
    assert not settings.secure


def test_asking_one_that_runs() -> None:
    assert parse(["--status"]).action is Action.STATUS
    assert parse(["--status", "--json", "-p", "/x"]).json
    assert parse(["-c", "--pcap", "-"]).pcap == "-"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "an address/prefix is needed"),
        ("-b bridge0", "an address/prefix is needed"),
        ("198.18.5.1", "its prefix is missing"),
        ("198.18.5.1/33", "no address/prefix"),
        ("nonsense/24", "no address/prefix"),
        ("198.18.5.1/0", "what -U is for"),
        ("fe80::1/64", "pass in any case"),
        ("fd00::1%eth0/64", "pass in any case"),
        ("224.0.0.1/24", "not an address that a host can have"),
        ("127.0.0.1/8", "not an address that a host can have"),
        ("-t none 198.18.5.1/24", "with -t none there is no TAP"),
        ("-t none -b bridge0", "with -t none there is no TAP"),
        ("-t eth0 198.18.5.1/24", "neither auto"),
        ("-t /var/run/vknet 198.18.5.1/24", "is no TAP"),
        ("-t tap:none/such 198.18.5.1/24", "is no TAP"),
        ("-U -b a/b", "letters, digits"),
        ("-U -p " + "x" * 104, "at most 103 bytes"),
        ("-U -p ", "the path of a socket is needed"),
        ("-U --mode 9", "no octal mode"),
        ("-U --mode 4755", "no octal mode"),
        ("-U --age 0", "no number from 1"),
        ("-U --clients none", "no whole number"),
        ("-U --mtu 67", "no whole number from 68"),
        ("-U --pcap x", "belongs to -c"),
        ("-U --json", "belongs to --status"),
        ("-c --status", "ask for one of them"),
        ("-c -U", "-c asks a vknetd that runs; -U is for starting one"),
        ("--status 198.18.5.1/24", "--status asks a vknetd that runs"),
        ("-U -x", "there is no option -x"),
        ("-U -p", "expected one argument"),
    ],
)
def test_what_makes_no_sense_is_said(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(words.split(" ") if words else [])


def test_the_help_fits_a_terminal() -> None:
    assert max(len(line) for line in HELP.splitlines()) <= 79
