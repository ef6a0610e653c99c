"""The command line of vknetd: argv to settings.  It opens nothing and starts nothing."""

from __future__ import annotations

import enum
import ipaddress
import os
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from vknet._version import __version__
from vknet.cli.argparser import Parser, parse_number
from vknet.cli.vknetd_secure import parse_protocols, parse_stations, refuse_secure_options
from vknet.errors import UsageError, escaped
from vknet.packet.ip import IPV6_MIN_MTU
from vknet.spec import (
    DEFAULT_SOCKET,
    SOCKET_PATH_LIMIT,
    TapSpec,
    parse_bridge,
    parse_spec,
)
from vknet.switch.table import AGE_S
from vknet.vknetd.settings import (
    CONTROL_SUFFIX,
    DEFAULT_CLIENTS,
    DEFAULT_MODE,
    DEFAULT_PIDFILE,
    Interface,
    VknetdSettings,
)
from vknet.wire.hello import MTU_MAX, MTU_MIN

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = [
    "COMMAND",
    "HELP",
    "Action",
    "Settings",
    "parse",
]

COMMAND: Final = "vknetd"

CLIENTS_MAX: Final = 65536
AGE_MIN_S: Final = 1
AGE_MAX_S: Final = 1_000_000

HELP: Final = """\
usage: vknetd [-dU] [-b bridge] [-i pidfile] [-p socket] [-t tap]
              [option ...] [address/prefix ...]
       vknetd -c [-p socket] [--pcap FILE]
       vknetd --status [--json] [-p socket]

Run an Ethernet switch for local programs, such as vknet and user-space
kernels.  Its uplink is a TAP interface.

  address/prefix         set this address on the TAP (with -b: on the bridge),
                         and let frames from within the prefix leave through
                         the uplink; IPv4 or IPv6, any number of them
  -U                     plain mode: let every frame leave through the uplink
  -b BRIDGE              put the TAP in this bridge; vknetd creates the bridge
                         if it does not exist, and keeps it
  -d                     stay in the foreground, and log to stderr
  -i PIDFILE             write the process ID to this file, and remove it at
                         the end (default /var/run/vknetd.pid, if vknetd runs
                         in the background and -p is not given)
  -p SOCKET              the socket to listen on (default /var/run/vknet)
  -t TAP                 the uplink: auto (default), tapN, tap:NAME, or none
                         for an isolated switch, which needs no address and,
                         with another -p, no root privileges

  --gateway ADDR         no client may use this IP or MAC address, even if it
                         was not seen outside yet; may be repeated
  --roaming ADDR         a client may use this IP or MAC address, even if it
                         was seen outside; may be repeated
  --protocols LIST       let these IP protocols out as well, for example
                         gre,ospf,132 (default: tcp, udp, icmp, icmp6, esp,
                         and igmp reports)

  --age SECONDS          forget a MAC address after this time without a frame
                         from it (1 to 1000000; default 300)
  --clients N            the maximum number of clients (default 256)
  --group GROUP          the group that may connect (default vknet)
  --mode MODE            the mode of the socket, in octal (default 0660)
  --mtu BYTES            the MTU of the TAP (68 to 65521)
  -v                     print more, such as which clients come and go
  -q                     print warnings and errors only

  -c                     connect to a running vknetd as a client, and print a
                         line for each frame that the switch sends
  --pcap FILE            with -c: write the frames for Wireshark and tcpdump;
                         - is stdout
  --status               print the status of a running vknetd
  --json                 with --status: print it as JSON
  --version, -h, --help  print the version, or this help, and exit

Example: a network for user-space kernels that this host is on as well:
  vknetd 198.18.5.1/24

On SIGUSR1, vknetd logs its status.  SIGTERM stops it.
Exit status: 0 after a signal to stop; 1 if something failed; 2 for wrong
arguments.
"""


# Words that are commands of other daemons.
STOP: Final = f"to stop vknetd: kill $(cat {DEFAULT_PIDFILE}), or systemctl stop vknetd"
START: Final = (
    "to start vknetd, give it an address/prefix, such as 198.18.5.1/24; see vknetd --help"
)
RESTART: Final = f"{STOP}; then start it again"
COMMANDS: Final = {
    "start": START,
    "stop": STOP,
    "restart": RESTART,
    "reload": RESTART,
    "status": "for the status: vknetd --status",
    "help": "for the help: vknetd --help",
}


class Action(enum.Enum):
    """The task of the command."""

    SWITCH = "switch"
    CAPTURE = "capture"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Settings(VknetdSettings):
    """The parsed and checked command line.

    Attributes:
        action: the task.
        foreground: stay in the foreground.
        pidfile: the file for the process ID; None for the default.
        pcap: a file for -c to write, ``-`` for stdout; None for lines of text.
        json: print the status as JSON.
        verbosity: -v less -q.
    """

    action: Action
    foreground: bool
    pidfile: str | None
    pcap: str | None
    json: bool
    verbosity: int


def parse(argv: Sequence[str]) -> Settings:
    """Parse a command line.

    Args:
        argv: the arguments, without the program's name.

    Raises:
        UsageError: an argument is wrong.
    """
    args = _parser().parse(argv)
    action = _action(args)
    if args.bridge is not None and args.tap is not None and args.bridge == args.tap:
        raise UsageError(f"-t and -b are both {escaped(args.tap)}; give them different names")
    interfaces = tuple(_interface(text) for text in args.interfaces)
    tap = _tap("auto" if args.tap is None else args.tap)
    if tap is None and action is Action.SWITCH:
        _refuse_tap_options(args)
    secure = tap is not None and not args.plain
    if action is Action.SWITCH and not secure:
        refuse_secure_options(args, "-t none" if tap is None else "-U")
    gateways, roaming = parse_stations(args.gateways or (), args.roaming or ())
    if action is Action.SWITCH and secure and not interfaces:
        raise UsageError(
            "an address/prefix is needed, such as 198.18.5.1/24: frames from within the prefix may"
            " leave through the uplink; or give -U for a plain switch, or -t none for an isolated"
            " one"
        )
    if args.mtu is not None and args.mtu < IPV6_MIN_MTU and any(i.version == 6 for i in interfaces):
        raise UsageError(f"--mtu {args.mtu}: IPv6 needs at least {IPV6_MIN_MTU}")
    return Settings(
        action=action,
        path=_path(args.path),
        tap=tap,
        bridge=None if args.bridge is None else parse_bridge(args.bridge, TapSpec(None), "local"),
        interfaces=interfaces,
        secure=secure,
        protocols=frozenset() if args.protocols is None else parse_protocols(args.protocols),
        gateways=gateways,
        roaming=roaming,
        foreground=args.foreground,
        pidfile=None if args.pidfile is None else _pidfile(args.pidfile),
        mode=DEFAULT_MODE if args.mode is None else _mode(args.mode),
        group=None if args.group is None else _group(args.group),
        mtu=args.mtu,
        age=AGE_S if args.age is None else args.age,
        clients=DEFAULT_CLIENTS if args.clients is None else args.clients,
        pcap=args.pcap,
        json=args.json,
        verbosity=args.verbose - args.quiet,
    )


def _parser() -> Parser:
    parser = Parser("vknetd", HELP)
    add = parser.add_argument
    add("-b", dest="bridge", metavar="BRIDGE")
    add("-c", dest="capture", action="store_true")
    add("-d", dest="foreground", action="store_true")
    add("-i", dest="pidfile", metavar="PIDFILE")
    add("-p", dest="path", metavar="SOCKET", default=DEFAULT_SOCKET)
    add("-t", dest="tap", metavar="auto, tapN, tap:NAME or none")
    add("-U", dest="plain", action="store_true")
    add("--age", type=partial(parse_number, float, AGE_MIN_S, AGE_MAX_S), metavar="SECONDS")
    add("--clients", type=partial(parse_number, int, 1, CLIENTS_MAX), metavar="N")
    add("--gateway", dest="gateways", action="append", metavar="ADDR")
    add("--group", metavar="GROUP")
    add("--mode", metavar="MODE")
    add("--mtu", type=partial(parse_number, int, MTU_MIN, MTU_MAX), metavar="BYTES")
    add("--pcap", metavar="FILE")
    add("--protocols", metavar="LIST")
    add("--roaming", dest="roaming", action="append", metavar="ADDR")
    add("--status", action="store_true")
    add("--json", action="store_true")
    add("-v", dest="verbose", action="count", default=0)
    add("-q", dest="quiet", action="count", default=0)
    add("--version", action="version", version=f"vknetd {__version__}")
    add("interfaces", nargs="*", metavar="address/prefix")
    return parser


def _action(args: argparse.Namespace) -> Action:
    """Return the task; refuse the options of other tasks."""
    if args.capture and args.status:
        raise UsageError("-c and --status cannot be combined; give one of them")
    if args.pcap is not None and not args.capture:
        raise UsageError("--pcap is for -c only")
    if args.json and not args.status:
        raise UsageError("--json is for --status only")
    if not (args.capture or args.status):
        return Action.SWITCH
    option = "-c" if args.capture else "--status"
    for switch_option, given in {
        "-b": args.bridge,
        "-t": args.tap,
        "-U": args.plain or None,
        "-d": args.foreground or None,
        "-i": args.pidfile,
        "an address/prefix": args.interfaces or None,
        "--age": args.age,
        "--clients": args.clients,
        "--gateway": args.gateways,
        "--protocols": args.protocols,
        "--roaming": args.roaming,
        "--group": args.group,
        "--mode": args.mode,
        "--mtu": args.mtu,
    }.items():
        if given is not None:
            raise UsageError(f"{option} asks a running vknetd; {switch_option} is for starting one")
    return Action.CAPTURE if args.capture else Action.STATUS


def _refuse_tap_options(args: argparse.Namespace) -> None:
    for option, given in {
        "-b": args.bridge,
        "--mtu": args.mtu,
        "an address/prefix": args.interfaces or None,
    }.items():
        if given is not None:
            raise UsageError(f"with -t none there is no TAP; remove {option}")


def _tap(text: str) -> TapSpec | None:
    """Parse the value of ``-t``; None for ``none``."""
    if text == "none":
        return None
    if "/" in text and not text.startswith("/dev/tap"):
        raise UsageError(f'-t "{escaped(text)}" is not a TAP: give auto, tapN, tap:NAME or none')
    try:
        spec = parse_spec(text, "-t")
    except UsageError as exc:
        if text.startswith("tap:"):
            raise
        # The error of `parse_spec` suggests sockets as well, which -t does not accept.
        raise UsageError(
            f'-t "{escaped(text)}" is neither auto, tapN, tap:NAME nor none;'
            " for a bridge, use -b BRIDGE"
        ) from exc
    if not isinstance(spec, TapSpec):
        raise UsageError(f'-t "{escaped(text)}" is not a TAP: give auto, tapN, tap:NAME or none')
    return spec


def _path(text: str) -> str:
    limit = SOCKET_PATH_LIMIT - len(CONTROL_SUFFIX)
    if not text:
        raise UsageError("-p needs the path of a socket")
    if not text.isprintable():
        raise UsageError(f'-p "{escaped(text)}": control characters are not allowed')
    if len(os.fsencode(text)) > limit:
        raise UsageError(
            f"-p {escaped(text)}: the path is longer than {limit} bytes; a socket's path has at"
            f" most {SOCKET_PATH_LIMIT}, and that of the control socket ends in {CONTROL_SUFFIX}"
        )
    return text


def _pidfile(text: str) -> str:
    if not text or not text.isprintable():
        raise UsageError(f'-i "{escaped(text)}" is not the path of a file')
    return text


def _group(text: str) -> str:
    if not text or not text.isprintable():
        raise UsageError(f'--group "{escaped(text)}" is not the name of a group')
    return text


def _mode(text: str) -> int:
    if not re.fullmatch("0?[0-7]{3}", text):
        raise UsageError(f'--mode "{escaped(text)}" is not an octal mode, such as 0660')
    return int(text, 8)


def _interface(text: str) -> Interface:
    shown = escaped(text)
    if text in COMMANDS:
        raise UsageError(f'there is no command "{text}"; {COMMANDS[text]}')
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise UsageError(
            f'"{shown}" is not an address/prefix, such as 198.18.5.1/24 or fd00:5::1/64'
        ) from None
    address, network = interface.ip, interface.network
    if "/" not in text:
        length = 24 if address.version == 4 else 64
        raise UsageError(f'"{shown}": its prefix is missing, such as {address}/{length}')
    if "%" in text or (address.is_link_local and address.version == 6):
        raise UsageError(f'"{shown}": IPv6 link-local addresses are always allowed; leave it out')
    if network.prefixlen == 0:
        raise UsageError(f'"{shown}" lets every frame out; for that, use -U')
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        raise UsageError(f'"{shown}" is not an address that a host can have')
    if address == network.broadcast_address and address.version == 4 and network.prefixlen < 31:
        raise UsageError(f'"{shown}" is the broadcast address of its network; no host has it')
    return interface
