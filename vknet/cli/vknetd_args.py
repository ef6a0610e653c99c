"""What vknetd's command line asks for: argv to settings.  Nothing is started here, or opened."""

from __future__ import annotations

import enum
import ipaddress
import os
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from vknet._version import __version__
from vknet.cli.argparser import Parser, number, what_is_unknown
from vknet.errors import UsageError, escaped
from vknet.packet.ip import IPV6_MIN_MTU
from vknet.spec import (
    DEFAULT_SOCKET,
    SOCKET_PATH_LIMIT,
    TapSpec,
    parse_bridge,
    parse_spec,
)
from vknet.switch.table import AGE
from vknet.vknetd.settings import (
    CONTROL_SUFFIX,
    DEFAULT_CLIENTS,
    DEFAULT_MODE,
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
AGE_MIN: Final = 1
AGE_MAX: Final = 1_000_000

HELP: Final = """\
usage: vknetd [-dU] [-b bridge] [-p socket] [-t tap] [option ...]
              [address/prefix ...]
       vknetd -c [-p socket] [--pcap FILE]
       vknetd --status [--json] [-p socket]

Run an Ethernet switch that local programs plug into: vknet, user-space
kernels, virtual machines.  A TAP interface is its way out.

  address/prefix         put this address on the TAP (with -b: on the bridge),
                         and let nothing out but what comes from within the
                         prefix; IPv4 or IPv6, as many as you like
  -U                     a plain switch, which lets everything out
  -b BRIDGE              put the TAP in this bridge; made if missing
  -d                     stay in the foreground, and log to stderr
  -p SOCKET              the socket to listen on (default /var/run/vknet)
  -t TAP                 auto (default), tapN, tap:NAME, or none: no way out,
                         which needs no address and, with a -p of your own,
                         no root

  --age SECONDS          forget a MAC address unseen for so long (default 300)
  --clients N            the most clients at a time (default 256)
  --group GROUP          the group that may connect (default vknet)
  --mode MODE            the socket's mode, octal (default 0660)
  --mtu BYTES            the MTU of the TAP (68 to 65521)
  -v                     say more: who comes and goes
  -q                     say only what went wrong

  -c                     be a client, and print what the switch sends it
  --pcap FILE            with -c: write the frames for Wireshark; - is stdout
  --status               print what a running vknetd knows: ports, counters
  --json                 with --status: as JSON
  --version, -h, --help  say that, and end

Example: a network of user-space kernels that the host is on as well:
  vknetd 198.18.5.1/24

SIGUSR1 has it log its status.  It ends with status 0 when it is stopped by a
signal, 1 when something fails, 2 for wrong arguments.
"""


class Action(enum.Enum):
    """What the command is to do."""

    SWITCH = "switch"
    CAPTURE = "capture"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Settings(VknetdSettings):
    """The parsed and checked command line.

    Attributes:
        action: what the command is to do.
        foreground: stay in the foreground.
        pcap: a file for -c to write, ``-`` for stdout; None for lines of text.
        json: print the status as JSON.
        verbosity: -v less -q.
    """

    action: Action
    foreground: bool
    pcap: str | None
    json: bool
    verbosity: int


def parse(argv: Sequence[str]) -> Settings:
    """Understand a command line.

    Args:
        argv: the arguments, without the program's name.

    Raises:
        UsageError: which argument is wrong, and why.
    """
    args, unknown = _parser().parse_known_intermixed_args(argv)
    if unknown:
        raise UsageError(what_is_unknown(unknown, "vknetd"))
    action = _action(args)
    if args.bridge is not None and args.tap is not None and args.bridge == args.tap:
        raise UsageError(f"-t and -b are both {escaped(args.tap)}; give them different names")
    interfaces = tuple(_interface(text) for text in args.interfaces)
    tap = _tap("auto" if args.tap is None else args.tap)
    if tap is None and action is Action.SWITCH:
        _refuse_with_no_tap(args)
    secure = tap is not None and not args.plain
    if action is Action.SWITCH and secure and not interfaces:
        raise UsageError(
            "an address/prefix is needed, such as 198.18.5.1/24: what comes from within may leave"
            " by the TAP; or -U for a plain switch, or -t none for one without a TAP"
        )
    if args.mtu is not None and args.mtu < IPV6_MIN_MTU and any(i.version == 6 for i in interfaces):
        raise UsageError(f"--mtu {args.mtu}: with IPv6 it is {IPV6_MIN_MTU} at the least")
    return Settings(
        action=action,
        path=_path(args.path),
        tap=tap,
        bridge=None if args.bridge is None else parse_bridge(args.bridge, TapSpec(None), "local"),
        interfaces=interfaces,
        secure=secure,
        foreground=args.foreground,
        mode=DEFAULT_MODE if args.mode is None else _mode(args.mode),
        group=None if args.group is None else _group(args.group),
        mtu=args.mtu,
        age=AGE if args.age is None else args.age,
        clients=DEFAULT_CLIENTS if args.clients is None else args.clients,
        pcap=args.pcap,
        json=args.json,
        verbosity=args.verbose - args.quiet,
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser("vknetd", HELP)
    add = parser.add_argument
    add("-b", dest="bridge", metavar="bridge")
    add("-c", dest="capture", action="store_true")
    add("-d", dest="foreground", action="store_true")
    add("-p", dest="path", metavar="socket", default=DEFAULT_SOCKET)
    add("-t", dest="tap", metavar="tap")
    add("-U", dest="plain", action="store_true")
    add("--age", type=partial(number, float, AGE_MIN, AGE_MAX))
    add("--clients", type=partial(number, int, 1, CLIENTS_MAX))
    add("--group")
    add("--mode")
    add("--mtu", type=partial(number, int, MTU_MIN, MTU_MAX))
    add("--pcap", metavar="file")
    add("--status", action="store_true")
    add("--json", action="store_true")
    add("-v", dest="verbose", action="count", default=0)
    add("-q", dest="quiet", action="count", default=0)
    add("--version", action="version", version=f"vknetd {__version__}")
    add("interfaces", nargs="*", metavar="address/prefix")
    return parser


def _action(args: argparse.Namespace) -> Action:
    """What is to be done; options that have no meaning with it are errors."""
    if args.capture and args.status:
        raise UsageError("-c and --status are two things; ask for one of them")
    if args.pcap is not None and not args.capture:
        raise UsageError("--pcap belongs to -c")
    if args.json and not args.status:
        raise UsageError("--json belongs to --status")
    if not (args.capture or args.status):
        return Action.SWITCH
    option = "-c" if args.capture else "--status"
    for of_the_switch, given in {
        "-b": args.bridge,
        "-t": args.tap,
        "-U": args.plain or None,
        "-d": args.foreground or None,
        "an address/prefix": args.interfaces or None,
        "--age": args.age,
        "--clients": args.clients,
        "--group": args.group,
        "--mode": args.mode,
        "--mtu": args.mtu,
    }.items():
        if given is not None:
            raise UsageError(
                f"{option} asks a vknetd that runs; {of_the_switch} is for starting one"
            )
    return Action.CAPTURE if args.capture else Action.STATUS


def _refuse_with_no_tap(args: argparse.Namespace) -> None:
    for option, given in {
        "-b": args.bridge,
        "--mtu": args.mtu,
        "an address/prefix": args.interfaces or None,
    }.items():
        if given is not None:
            raise UsageError(f"with -t none there is no TAP; {option} has no meaning")


def _tap(text: str) -> TapSpec | None:
    """The TAP of ``-t``; None for none."""
    if text == "none":
        return None
    if "/" in text and not text.startswith("/dev/tap"):
        raise UsageError(f'-t "{escaped(text)}" is no TAP: auto, tapN, tap:NAME or none')
    try:
        spec = parse_spec(text, "-t")
    except UsageError as exc:
        if text.startswith("tap:"):
            raise
        # What else a spec may be, and its error speaks of, is no TAP.
        raise UsageError(
            f'-t "{escaped(text)}" is neither auto, tapN, tap:NAME nor none;'
            " a bridge is joined by -b BRIDGE"
        ) from exc
    if not isinstance(spec, TapSpec):
        raise UsageError(f'-t "{escaped(text)}" is no TAP: auto, tapN, tap:NAME or none')
    return spec


def _path(text: str) -> str:
    limit = SOCKET_PATH_LIMIT - len(CONTROL_SUFFIX)
    if not text:
        raise UsageError("-p: the path of a socket is needed")
    if not text.isprintable():
        raise UsageError(f'-p "{escaped(text)}": control characters are not allowed')
    if len(os.fsencode(text)) > limit:
        raise UsageError(
            f"-p {escaped(text)}: the path has at most {limit} bytes, since a socket's has at"
            f" most {SOCKET_PATH_LIMIT} and {CONTROL_SUFFIX} is put behind it"
        )
    return text


def _group(text: str) -> str:
    if not text or not text.isprintable():
        raise UsageError(f'--group "{escaped(text)}": the name of a group is needed')
    return text


def _mode(text: str) -> int:
    if not re.fullmatch("0?[0-7]{3}", text):
        raise UsageError(f'--mode "{escaped(text)}" is no octal mode, such as 0660')
    return int(text, 8)


def _interface(text: str) -> Interface:
    shown = escaped(text)
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise UsageError(
            f'"{shown}" is no address/prefix, such as 198.18.5.1/24 or fd00:5::1/64'
        ) from None
    address, network = interface.ip, interface.network
    if "/" not in text:
        raise UsageError(f'"{shown}": its prefix is missing, such as {address}/24')
    if "%" in text or (address.is_link_local and address.version == 6):
        raise UsageError(f'"{shown}": link-local addresses of IPv6 pass in any case')
    if network.prefixlen == 0:
        raise UsageError(f'"{shown}" lets everything out; that is what -U is for')
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        raise UsageError(f'"{shown}" is not an address that a host can have on a network')
    if address == network.broadcast_address and address.version == 4 and network.prefixlen < 31:
        raise UsageError(f'"{shown}" is the broadcast address of its network; no host has it')
    return interface
