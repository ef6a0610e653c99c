"""The command line of vknet: argv to settings.  It opens nothing and starts nothing."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from vknet._version import __version__
from vknet.cli.argparser import Parser, parse_number
from vknet.errors import UsageError, escaped
from vknet.link.settings import LinkSettings
from vknet.packet.ethernet import FULL_FRAME
from vknet.packet.virtio import ALL_OFFLOADS, DEFAULT_OFFLOADS, NO_OFFLOADS, Offload
from vknet.spec import (
    RetryPolicy,
    Spec,
    bridge_example,
    parse_bridge,
    parse_retry,
    parse_spec,
    parse_target,
)
from vknet.transport.ssh_command import DEFAULT_SSH, WIRE2_MARK, SshSettings
from vknet.wire.blocks import Wire
from vknet.wire.hello import MTU_MAX, MTU_MIN, TIMEOUT_MAX_S, TIMEOUT_MIN_S, WINDOW_MAX
from vknet.wire.keepalive import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HELP", "Settings", "parse_arguments"]

# The options that are passed to ssh: those with a value and its form, and those without.  They are
# spelled as in ssh(1).
SSH_VALUE_OPTIONS: Final = {
    "-F": "FILE",
    "-i": "FILE",
    "-J": "HOST",
    "-o": "OPTION",
    "-p": "PORT",
}
SSH_FLAGS: Final = ("-4", "-6")

OFFLOAD_SETTINGS: Final = {
    "on": DEFAULT_OFFLOADS,
    "off": NO_OFFLOADS,
    "+uso": ALL_OFFLOADS,
}

WIRE_SETTINGS: Final = {"auto": Wire.AUTO, "1": Wire.V1}

WINDOW_SETTINGS: Final = {"auto": None, "off": 0}
WINDOW_MIN_BYTES: Final = 2 * FULL_FRAME
"""With less than one and a half full frames in flight, the peer's ACKs would be delayed."""

USAGE: Final = "usage: vknet [option ...] local-spec [user@]host[:remote-spec]"
"""The short form, for errors."""

HELP: Final = """\
usage: vknet [-C] [-b local-bridge] [-B remote-bridge] [-r delay[:retries]]
             [option ...] local-spec [user@]host[:remote-spec]
       vknet -S [-b local-bridge] [option ...] local-spec

Join the Ethernet networks of two hosts over ssh.

A spec names what to join on each side:
  auto                   an unused TAP interface
  tapN, /dev/tapN        the TAP interface of that name
  tap:NAME               a TAP interface with any name
  /PATH, ./PATH          the socket of a vknetd switch
The default remote-spec is /var/run/vknet.  An IPv6 address of a host goes in
brackets: [2001:db8::2]:auto.

  -b BRIDGE              put the local TAP in this bridge; vknet creates the
                         bridge if it does not exist, and keeps it
  -B BRIDGE              the same for the remote TAP
  -C                     have ssh compress the data
  -r DELAY[:RETRIES]     when the link is lost or cannot be established, wait
                         DELAY seconds (0.1 or more) and try again: without
                         limit, or at most RETRIES times in a row; the delay
                         grows with each failure, up to one minute, or five
                         minutes if the other side refuses
  -S                     be the remote half, on stdin and stdout; ssh runs this

  -F FILE, -i FILE, -J HOST, -o OPTION, -p PORT, -4, -6
                         pass this option to ssh
  -e, --ssh-command CMD  run this command instead of ssh
  --remote-command CMD   run this command instead of vknet on the remote side,
                         for example "sudo -n vknet"
  --offload on|off|+uso  carry TCP in super-frames of up to 64 KB if both
                         sides can (on, the default), or never (off); +uso,
                         given on both sides: some UDP, too
  --window auto|off|BYTES
                         limit the data in flight to what fills the path, so
                         that latency stays low under load (auto, the
                         default), or to BYTES (3028 or more), or not (off)
  --wire auto|1          the wire protocol: send no frame before the remote
                         side has identified itself as vknet (auto, the
                         default), or speak wire v1 immediately (1), to a
                         vknet of 2008 on a quiet network
  --mtu BYTES            the MTU of the TAPs (68 to 65521)
  --timeout SECONDS      declare the peer dead after this time of silence
                         (1 to 86400; default 15)
  -v                     print more; twice: the debug messages of ssh, too
  -q                     print warnings and errors only
  --version, -h, --help  print the version, or this help, and exit

Example: join bridge0 of this host with bridge0 of another one:
  vknet -r 5 -b bridge0 -B bridge0 auto myhomesystem:auto

On SIGUSR1, vknet prints how many frames it has carried and dropped.
Exit status: 0 after a signal to stop; 1 if the link was lost or could not be
established; 2 for wrong arguments.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The parsed and checked command line.

    Attributes:
        spec: the local endpoint.
        bridge: the bridge that the local TAP joins; None for none.
        mtu: that of the local TAP in bytes; None leaves it unchanged.
        link: the settings of every link; for the remote half, with the wire of its client.
        retry: when to try again; None to end when the link is lost.
        ssh: how to reach the other side; None for the remote half (-S).
        verbosity: -v less -q.
        asked: for the remote half under a forced command: the spec and the bridge that the client
            asked for, if they are others; else None.
    """

    spec: Spec
    bridge: str | None
    mtu: int | None
    link: LinkSettings
    retry: RetryPolicy | None
    ssh: SshSettings | None
    verbosity: int
    asked: str | None = None


def parse_arguments(argv: Sequence[str], original_command: str = "") -> Settings:
    """Parse a command line.

    Args:
        argv: the arguments, without the program's name.
        original_command: the command of an ssh client for which sshd runs a forced command instead
            (SSH_ORIGINAL_COMMAND).  Only the mark of a client that speaks wire v2 is read from it.

    Raises:
        UsageError: an argument is wrong.
    """
    args = _parser().parse(argv)
    if args.spec is None:
        raise UsageError(f"a local-spec is needed; {USAGE}; see vknet --help")
    if args.remote_half:
        return _remote_settings(args, original_command)
    if args.target is None:
        raise UsageError(
            f'after the local-spec "{escaped(args.spec)}", [user@]host[:remote-spec] is needed;'
            f" did an option take it as its value? {USAGE}; see vknet --help"
        )
    example = bridge_example(args.spec, args.target)
    spec = parse_spec(args.spec, example=example)
    target = parse_target(args.target, example)
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
    # A remote half ignores the bridge of -B, as in 2008, so -B can carry the mark.
    marked = args.remote_bridge == WIRE2_MARK or _has_mark(original_command)
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
        asked=_asked_otherwise(original_command, args.spec, args.bridge),
    )


def _asked_otherwise(original_command: str, spec: str, bridge: str | None) -> str | None:
    """Return the spec and the bridge of a client, if the forced command has others."""
    try:
        words = shlex.split(original_command)
    except ValueError:
        return None
    if "-S" not in words:
        return None
    arguments = words[words.index("-S") + 1 :]
    bridges = [value for option, value in pairwise(arguments) if option == "-b"]
    asked_bridge = bridges[-1] if bridges else None
    if not arguments or (arguments[-1], asked_bridge) == (spec, bridge):
        return None
    return escaped(arguments[-1] + ("" if asked_bridge is None else f" in bridge {asked_bridge}"))


def _has_mark(original_command: str) -> bool:
    """Whether the client of a forced command passed ``-B wire=2``."""
    try:
        words = shlex.split(original_command)
    except ValueError:
        return False
    return ("-B", WIRE2_MARK) in pairwise(words)


class _Parser(Parser):
    def unknown_message(self, words: Sequence[str]) -> str:
        message = super().unknown_message(words)
        # ssh has -l for the user.
        return f"{message}; a user is written user@host" if words[0].startswith("-l") else message


def _parser() -> Parser:
    parser = _Parser("vknet", HELP)
    add = parser.add_argument
    add("-b", dest="bridge", metavar="BRIDGE")
    add("-B", dest="remote_bridge", metavar="BRIDGE")
    add("-C", dest="compress", action="store_true")
    add("-r", dest="retry", metavar="DELAY[:RETRIES]")
    add("-S", dest="remote_half", action="store_true")
    for option, form in SSH_VALUE_OPTIONS.items():
        add(option, dest="ssh_options", action=_SshOption, metavar=form)
    for option in SSH_FLAGS:
        add(option, dest="ssh_options", action="append_const", const=option)
    add("-e", "--ssh-command", metavar="CMD")
    add("--remote-command", metavar="CMD")
    add("--offload", type=_offload, default=DEFAULT_OFFLOADS, metavar="on, off or +uso")
    add("--window", type=_window, default=None, metavar="auto, off or BYTES")
    add("--wire", type=_wire, metavar="auto or 1")
    add("--mtu", type=partial(parse_number, int, MTU_MIN, MTU_MAX), metavar="BYTES")
    add(
        "--timeout",
        type=partial(parse_number, float, TIMEOUT_MIN_S, TIMEOUT_MAX_S),
        metavar="SECONDS",
    )
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
        return int(parse_number(int, WINDOW_MIN_BYTES, WINDOW_MAX, text))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f'"{escaped(text)}" is neither auto, off nor a whole number of bytes'
            f" from {WINDOW_MIN_BYTES} to {WINDOW_MAX}"
        ) from None


def _wire(text: str) -> str:
    if text not in WIRE_SETTINGS:
        raise argparse.ArgumentTypeError(f'"{escaped(text)}" is neither auto nor 1')
    return text


def _offload(text: str) -> Offload:
    if text not in OFFLOAD_SETTINGS:
        raise argparse.ArgumentTypeError(f'"{escaped(text)}" is neither on, off nor +uso')
    return OFFLOAD_SETTINGS[text]


class _SshOption(argparse.Action):
    """Keeps an option of ssh and its value as two arguments, in the order of the command line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        options = getattr(namespace, self.dest) or []
        if option_string == "-p" and not (str(values).isdecimal() and 0 < int(str(values)) < 2**16):
            parser.error(f'-p "{values}" is not a port from 1 to 65535')
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
    if command is not None and not command.strip():
        raise UsageError(f'{option} "": a command is needed, such as vknet or "sudo -n vknet"')
    if command is not None and not command.isprintable():
        raise UsageError(f'{option} "{escaped(command)}": one line of shell words is needed')
    return command
