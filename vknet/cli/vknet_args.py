"""What a command line asks for: argv to settings.  Nothing is started here, or opened."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from vknet._version import __version__
from vknet.cli.argparser import Parser, number, what_is_unknown
from vknet.errors import UsageError, escaped
from vknet.link.settings import LinkSettings
from vknet.packet.virtio import ALL_OFFLOADS, DEFAULT_OFFLOADS, NO_OFFLOADS, Offload
from vknet.spec import (
    RetryPolicy,
    Spec,
    parse_bridge,
    parse_retry,
    parse_spec,
    parse_target,
)
from vknet.transport.ssh_command import DEFAULT_SSH, MARK, SshSettings
from vknet.wire.blocks import Wire
from vknet.wire.hello import MTU_MAX, MTU_MIN, TIMEOUT_MAX_S, TIMEOUT_MIN_S, WINDOW_MAX
from vknet.wire.keepalive import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HELP", "Settings", "parse_arguments"]

# Options of ssh that take a value, and those that do not; spelled as scp spells them, but that -p
# is the port, as in ssh.
SSH_VALUES: Final = ("F", "i", "J", "o", "p")
SSH_FLAGS: Final = ("4", "6")

OFFLOAD_SETTINGS: Final = {
    "on": DEFAULT_OFFLOADS,
    "off": NO_OFFLOADS,
    "+uso": ALL_OFFLOADS,
}

WIRE_SETTINGS: Final = {"auto": Wire.AUTO, "1": Wire.V1}

WINDOW_SETTINGS: Final = {"auto": None, "off": 0}
WINDOW_MIN: Final = 2 * 1514
"""Bytes: two full Ethernet frames; of less than one and a half, ACKs are told at leisure."""

HELP: Final = """\
usage: vknet [-C] [-b local-bridge] [-B remote-bridge] [-r delay[:retries]]
             [option ...] local-spec [user@]host[:remote-spec]
       vknet -S [-b local-bridge] [option ...] local-spec

Join the Ethernet networks of two hosts over nothing but ssh.

A spec is what is joined on its side:
  auto                   the first unused TAP interface
  tapN, /dev/tapN        that TAP interface
  tap:NAME               a TAP interface with any name
  /PATH                  the socket of a vknetd switch
The remote-spec is /var/run/vknet unless given.  An IPv6 host goes in brackets.

  -b BRIDGE              put the local TAP in this bridge; made if missing
  -B BRIDGE              put the remote TAP in this bridge; made if missing
  -C                     have ssh compress
  -r DELAY[:RETRIES]     when the link is lost or cannot be established, wait
                         DELAY seconds and try again; for ever, or at most
                         RETRIES times in a row
  -S                     be the remote half, on stdin and stdout; ssh runs this

  -F FILE, -i FILE, -J HOST, -o OPTION, -p PORT, -4, -6
                         given to ssh as they are
  -e, --ssh-command CMD  run this instead of ssh
  --remote-command CMD   run this instead of vknet on the remote side, such as
                         "sudo -n vknet"
  --offload on|off|+uso  carry TCP in pieces of up to 64 KB if both sides can
                         (on), or never (off); +uso: some UDP, too
  --window auto|off|BYTES
                         let no more be under way than fills the path, so that
                         what comes next need not wait behind it (auto), or so
                         many bytes (3028 or more), or no end of them (off)
  --wire auto|1          send no frame until the remote side has proved to be
                         vknet (auto); or speak wire v1 to it at once, for a
                         vknet of 2008 on a quiet network
  --mtu BYTES            the MTU of the TAPs (68 to 65521)
  --timeout SECONDS      a peer silent for so long is dead (default 15)
  -v                     say more; twice: ssh, too
  -q                     say only what went wrong
  --version, -h, --help  say that, and end

Example: make one Ethernet of two bridges, for as long as it takes:
  vknet -r 5 -b bridge0 -B bridge0 auto myhomesystem:auto

SIGUSR1 has it say what it has carried and dropped so far.
It ends with status 0 when it is stopped by a signal, 1 when the link is lost
or cannot be established, 2 for wrong arguments.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks for, understood and checked.

    Attributes:
        ssh: how to reach the other side; None for the remote half (-S).
        link: how links behave; for the remote half, with the wire its client can speak.
    """

    spec: Spec
    bridge: str | None
    mtu: int | None
    link: LinkSettings
    retry: RetryPolicy | None
    ssh: SshSettings | None
    verbosity: int


def parse_arguments(argv: Sequence[str], original_command: str = "") -> Settings:
    """Understand a command line.

    Args:
        argv: the arguments, without the program's name.
        original_command: what an ssh client asked for where a forced command runs instead
            (SSH_ORIGINAL_COMMAND); only the mark of a client that speaks v2 is looked for in it.

    Raises:
        UsageError: which argument is wrong, and why.
    """
    args, unknown = _parser().parse_known_intermixed_args(argv)
    if unknown:
        raise UsageError(_what_is_unknown(unknown))
    if args.spec is None:
        raise UsageError("a local-spec is needed; see vknet --help")
    if args.remote_half:
        return _remote_settings(args, original_command)
    if args.target is None:
        raise UsageError(
            f'after the local-spec "{escaped(args.spec)}", [user@]host[:remote-spec] is needed;'
            " has an option taken it for its value? See vknet --help"
        )
    spec = parse_spec(args.spec)
    target = parse_target(args.target)
    timeout = DEFAULT_TIMEOUT_S if args.timeout is None else args.timeout
    return Settings(
        spec=spec,
        bridge=None if args.bridge is None else parse_bridge(args.bridge, spec, "local"),
        mtu=args.mtu,
        link=LinkSettings(
            WIRE_SETTINGS[args.wire or "auto"],
            timeout,
            offloads=args.offload,
            window=args.window,
        ),
        retry=None if args.retry is None else parse_retry(args.retry),
        ssh=SshSettings(
            target=target,
            remote_bridge=None
            if args.remote_bridge is None
            else parse_bridge(args.remote_bridge, parse_spec(target.spec), "remote"),
            compress=args.compress,
            options=tuple(args.ssh_options or ()),
            command=DEFAULT_SSH if args.ssh_command is None else _words(args.ssh_command),
            remote_vknet=_one_line(args.remote_command, "--remote-command") or "vknet",
            timeout=timeout,
            verbose=args.verbose >= 2,
            marked=args.wire != "1",
        ),
        verbosity=args.verbose - args.quiet,
    )


def _what_is_unknown(words: Sequence[str]) -> str:
    what = what_is_unknown(words, "vknet")
    return f"{what}; a user is written user@host" if words[0].startswith("-l") else what


def _remote_settings(args: argparse.Namespace, original_command: str) -> Settings:
    if args.target is not None:
        raise UsageError(f'-S takes one local-spec; "{escaped(args.target)}" is one too many')
    misplaced = {
        "-C": args.compress or None,
        "-r": args.retry,
        "-e": args.ssh_command,
        "--remote-command": args.remote_command,
        "--wire": args.wire,
        "an option for ssh": args.ssh_options,
    }
    for option, given in misplaced.items():
        if given is not None:
            raise UsageError(f"-S does not run ssh or retry; {option} belongs to the other side")
    # -B means nothing here, as in 2008; that is why the mark can stand in it.
    marked = args.remote_bridge == MARK or _has_mark(original_command)
    spec = parse_spec(args.spec)
    return Settings(
        spec=spec,
        bridge=None if args.bridge is None else parse_bridge(args.bridge, spec, "local"),
        mtu=args.mtu,
        link=LinkSettings(
            Wire.V2 if marked else Wire.V1,
            DEFAULT_TIMEOUT_S if args.timeout is None else args.timeout,
            adopt_timeout=args.timeout is None,
            offloads=args.offload,
            window=args.window,
        ),
        retry=None,
        ssh=None,
        verbosity=args.verbose - args.quiet,
    )


def _has_mark(original_command: str) -> bool:
    """Whether the client of a forced command asked for ``-B wire=2``."""
    try:
        words = shlex.split(original_command)
    except ValueError:
        return False
    return ("-B", MARK) in pairwise(words)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("vknet", HELP)
    add = parser.add_argument
    add("-b", dest="bridge", metavar="local-bridge")
    add("-B", dest="remote_bridge", metavar="remote-bridge")
    add("-C", dest="compress", action="store_true")
    add("-r", dest="retry", metavar="delay[:retries]")
    add("-S", dest="remote_half", action="store_true")
    for letter in SSH_VALUES:
        add(f"-{letter}", dest="ssh_options", action=_SshOption, metavar="value")
    for letter in SSH_FLAGS:
        add(f"-{letter}", dest="ssh_options", action="append_const", const=f"-{letter}")
    add("-e", "--ssh-command")
    add("--remote-command")
    add("--offload", type=_offload, default=DEFAULT_OFFLOADS)
    add("--window", type=_window, default=None)
    add("--wire", type=_wire)
    add("--mtu", type=partial(number, int, MTU_MIN, MTU_MAX))
    add("--timeout", type=partial(number, float, TIMEOUT_MIN_S, TIMEOUT_MAX_S))
    add("-v", dest="verbose", action="count", default=0)
    add("-q", dest="quiet", action="count", default=0)
    add("--version", action="version", version=f"vknet {__version__}")
    add("spec", nargs="?", metavar="local-spec")
    add("target", nargs="?", metavar="[user@]host[:remote-spec]")
    return parser


def _window(text: str) -> int | None:
    if text in WINDOW_SETTINGS:
        return WINDOW_SETTINGS[text]
    try:
        return int(number(int, WINDOW_MIN, WINDOW_MAX, text))
    except argparse.ArgumentTypeError as exc:
        raise argparse.ArgumentTypeError(f"{exc}, in bytes, nor auto or off") from None


def _wire(text: str) -> str:
    if text not in WIRE_SETTINGS:
        raise argparse.ArgumentTypeError(f'"{escaped(text)}" is neither auto nor 1')
    return text


def _offload(text: str) -> Offload:
    if text not in OFFLOAD_SETTINGS:
        raise argparse.ArgumentTypeError(f'"{escaped(text)}" is neither on, off nor +uso')
    return OFFLOAD_SETTINGS[text]


class _SshOption(argparse.Action):
    """Keeps an option of ssh as the two arguments it was, in order."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        options = getattr(namespace, self.dest) or []
        if option_string == "-p" and not (str(values).isdecimal() and 0 < int(str(values)) < 2**16):
            parser.error(f'-p "{values}" is no port from 1 to 65535')
        setattr(namespace, self.dest, [*options, option_string, str(values)])


def _words(command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError as exc:
        raise UsageError(f'-e "{escaped(command)}": {exc}') from exc
    if not words:
        raise UsageError("-e: a command is needed")
    return words


def _one_line(command: str | None, option: str) -> str | None:
    if command is not None and (not command.strip() or not command.isprintable()):
        raise UsageError(f'{option} "{escaped(command)}": one line of shell words is needed')
    return command
