"""The command line of vknetd: the settings that it gives, and its errors."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from vknet.cli.vknetd_args import HELP, Action, parse
from vknet.errors import UsageError
from vknet.spec import TapSpec
from vknet.vknetd.settings import station_text


def test_one_prefix_is_enough() -> None:
    settings = parse(["198.18.5.1/24"])
    assert settings.action is Action.SWITCH
    assert settings.path == "/var/run/vknet"
    assert settings.tap == TapSpec(None)
    assert settings.interfaces == (ip_interface("198.18.5.1/24"),)
    assert settings.secure
    assert not settings.foreground
    assert (settings.mode, settings.group) == (0o660, None)
    assert (settings.age, settings.clients) == (300, 256)


def test_every_option_of_the_switch() -> None:
    words = "-dvb bridge0 -p ./s -t tap7 198.18.5.1/24 fd00:5::1/64 --mode 0666 --group kvm"
    words += " --age 60 --clients 9 --mtu 1400 -i ./pid"
    settings = parse(words.split(" "))
    assert settings.foreground
    assert settings.bridge == "bridge0"
    assert settings.path == "./s"
    assert settings.pidfile == "./pid"
    assert settings.tap == TapSpec("tap7")
    assert [str(i) for i in settings.interfaces] == ["198.18.5.1/24", "fd00:5::1/64"]
    assert (settings.mode, settings.group, settings.mtu) == (0o666, "kvm", 1400)
    assert (settings.age, settings.clients, settings.verbosity) == (60, 9, 1)


def test_secure_mode_has_gateways_roaming_stations_and_more_protocols() -> None:
    words = "198.18.5.1/24 --gateway 198.18.5.254 --gateway fe80::1 --gateway 02:00:00:00:00:0A"
    settings = parse([*words.split(), "--roaming", "198.18.5.7", "--protocols", "gre,OSPF,132"])
    addresses = (ip_address("198.18.5.254"), ip_address("fe80::1"), bytes.fromhex("02000000000a"))
    assert settings.gateways == addresses
    assert station_text(addresses[2]) == "02:00:00:00:00:0a"
    assert station_text(addresses[1]) == "fe80::1"
    assert settings.roaming == (ip_address("198.18.5.7"),)
    assert settings.protocols == {47, 89, 132}
    settings = parse(["198.18.5.1/24"])
    assert (settings.gateways, settings.roaming, settings.protocols) == ((), (), frozenset())


def test_plain_switch_needs_no_prefix_but_may_have_an_address() -> None:
    assert not parse(["-U"]).secure
    assert not parse(["-U", "198.18.5.1/24"]).secure


def test_isolated_switch_needs_no_prefix() -> None:
    settings = parse(["-t", "none"])
    assert settings.tap is None
    assert not settings.secure


def test_running_vknetd_is_asked_with_c_or_status() -> None:
    assert parse(["--status"]).action is Action.STATUS
    assert parse(["--status", "--json", "-p", "/x"]).json
    assert parse(["-c", "--pcap", "-"]).pcap == "-"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "an address/prefix is needed"),
        ("-b bridge0", "an address/prefix is needed"),
        ("198.18.5.1", "its prefix is missing, such as 198.18.5.1/24"),
        ("fd00:5::1", "its prefix is missing, such as fd00:5::1/64"),
        ("198.18.5.1/33", "not an address/prefix"),
        ("nonsense/24", "not an address/prefix"),
        ("198.18.5.1/0", "for that, use -U"),
        ("fe80::1/64", "always allowed"),
        ("fd00::1%eth0/64", "always allowed"),
        ("224.0.0.1/24", "not an address that a host can have"),
        ("127.0.0.1/8", "not an address that a host can have"),
        ("198.18.5.1/24 --gateway foo", "neither an IP address nor a MAC address"),
        ("198.18.5.1/24 --gateway 198.18.5.1/24", "neither an IP address nor a MAC address"),
        ("198.18.5.1/24 --roaming fe80::1%eth0", "leave out the interface"),
        ("198.18.5.1/24 --roaming 224.0.0.1", "not the address of a station"),
        ("198.18.5.1/24 --gateway 00:00:00:00:00:00", "not the address of a station"),
        ("198.18.5.1/24 --gateway 01:00:5e:00:00:01", "not the address of a station"),
        (
            "198.18.5.1/24 --gateway 198.18.5.9 --roaming 198.18.5.9",
            "198.18.5.9 cannot be both --gateway and --roaming",
        ),
        ("198.18.5.1/24 --protocols gre,", '"" is neither a number from 0 to 255 nor one of icmp'),
        ("198.18.5.1/24 --protocols 256", '"256" is neither a number'),
        ("198.18.5.1/24 --protocols mld", '"mld" is neither a number'),
        ("-U --gateway 198.18.5.9", "--gateway is for secure mode; remove it, or -U"),
        ("-t none --protocols gre", "--protocols is for secure mode; remove it, or -t none"),
        ("--status --roaming 198.18.5.9", "--roaming is for starting one"),
        ("-t none 198.18.5.1/24", "with -t none there is no TAP"),
        ("-t none -b bridge0", "with -t none there is no TAP"),
        ("-t eth0 198.18.5.1/24", "neither auto"),
        ("-t /var/run/vknet 198.18.5.1/24", "is not a TAP"),
        ("-t tap:none/such 198.18.5.1/24", "is not a TAP"),
        ("-U -b a/b", "letters, digits"),
        ("-U -p " + "x" * 104, "longer than 103 bytes"),
        ("-U -p ", "-p needs the path of a socket"),
        ("-U --mode 9", "not an octal mode"),
        ("-U --mode 4755", "not an octal mode"),
        ("-U --age 0", '--age: "0" must be a number from 1 to 1000000'),
        ("-U --clients none", "must be a whole number from 1 to 65536"),
        ("-U --mtu 67", "must be a whole number from 68 to 65521"),
        ("-U --pcap x", "--pcap is for -c only"),
        ("-U --json", "--json is for --status only"),
        ("-c --status", "give one of them"),
        ("-c -U", "-c asks a running vknetd; -U is for starting one"),
        (
            "--status 198.18.5.1/24",
            "an address/prefix is for starting one",
        ),
        ("-U -x", "there is no option -x"),
        ("-U -p", "-p needs a value: SOCKET"),
        ("-U --clients", "--clients needs a value: N"),
        ("-U --json=1", "--json takes no value"),
        ("-U -i ", '-i "" is not the path of a file'),
        ("--status -i x", "--status asks a running vknetd; -i is for starting one"),
        ("stop", r'there is no command "stop"; to stop vknetd: kill \$\(cat /var/run/vknetd.pid\)'),
        ("restart", "or systemctl stop vknetd; then start it again"),
        ("start", "give it an address/prefix"),
        ("status", "for the status: vknetd --status"),
    ],
)
def test_usage_error_says_what_is_wrong(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(words.split(" ") if words else [])


def test_help_fits_a_terminal_of_80_columns() -> None:
    assert max(len(line) for line in HELP.splitlines()) <= 79
