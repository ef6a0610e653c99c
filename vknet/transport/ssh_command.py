"""The command line of ssh(1), and the meaning of its exit.  Pure.

vknet uses a connection of its own, whatever ssh_config(5) says.  ssh takes the first value given
for an option, and the command line precedes the files.  So the user's own options come first, then
those below.

With `LogLevel=VERBOSE` ssh prints a line when it has authenticated.  After that line there are no
more prompts, so from then on silence counts against the timeout.
"""

from __future__ import annotations

import math
import re
import shlex
import signal
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from vknet.errors import PeerGone, SetupError, UsageError
from vknet.wire.keepalive import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vknet.errors import VknetError
    from vknet.spec import Target

__all__ = [
    "AUTHENTICATED",
    "DEFAULT_SSH",
    "KILLED",
    "STARTER",
    "VERBOSE_ONLY",
    "WIRE2_MARK",
    "SshSettings",
    "diagnose",
    "login_address",
    "remote_command",
    "shows_login",
    "ssh_argv",
]

DEFAULT_SSH: Final = ("ssh",)

WIRE2_MARK: Final = "wire=2"
"""The value of -B that tells `vknet -S` to speak v2.  The vknet of 2008 ignores -B with -S."""

# The number of ServerAlive probes in one timeout.
ALIVE_PROBES: Final = 3

# A third faster than chacha20 if the processor has AES, and they rekey less often.
FAST_CIPHERS: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")

# Options of OpenSSH 8.7 and later.  An older ssh refuses them and exits.
NEW_OPTIONS: Final = (
    ("StdinNull", "no"),
    ("ForkAfterAuthentication", "no"),
    ("SessionType", "default"),
)

# The beginnings of the lines that ssh prints only because of LogLevel=VERBOSE.
AUTHENTICATED: Final = "Authenticated to "
VERBOSE_ONLY: Final = (AUTHENTICATED, "Transferred: sent ", "Bytes per second: sent ")

KILLED: Final = "Killed by signal "

# The name of the shell that starts ssh (`vknet.transport.ssh`): its messages begin with it.
STARTER: Final = "vknet-exec"

# Exit statuses: of ssh itself (ssh(1)), and of the remote shell (POSIX, sh, EXIT STATUS).
SSH_FAILED: Final = 255
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126


@dataclass(frozen=True, slots=True)
class SshSettings:
    """How to run ssh, and what to run on the remote side.

    Attributes:
        target: the host, and the endpoint on it.
        remote_bridge: the bridge that the remote TAP joins; None if none.
        compress: whether ssh compresses (its -C).
        options: options for ssh that the user gave, as arguments.
        command: the ssh program, possibly with options.
        remote_vknet: the shell words that run vknet on the remote side.
        timeout: seconds of silence after which the connection counts as dead.
        verbose: whether ssh logs debugging messages.
        marked: whether to tell the remote side that this side speaks v2.
    """

    target: Target
    remote_bridge: str | None = None
    compress: bool = False
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = DEFAULT_SSH
    remote_vknet: str = "vknet"
    timeout: float = DEFAULT_TIMEOUT_S
    verbose: bool = False
    marked: bool = True


def remote_command(settings: SshSettings) -> str:
    """Return the command for the remote login shell, with every argument quoted."""
    bridge = [] if settings.remote_bridge is None else ["-b", settings.remote_bridge]
    mark = ["-B", WIRE2_MARK] if settings.marked else []
    arguments = ["-S", *mark, *bridge, settings.target.spec]
    return f"exec {settings.remote_vknet} {shlex.join(arguments)}"


def ssh_argv(
    settings: SshSettings,
    configured: Mapping[str, str] | None = None,
    *,
    connect_timeout: float | None = None,
) -> list[str]:
    """Return the command line of ssh.

    Args:
        settings: the host, and how to reach it.
        configured: the output of `ssh -G` for this host, by keyword in lower case; None if there is
            none.  Newer options and ciphers are used only if it names them.
        connect_timeout: seconds for connecting and the key exchange; None means the timeout of the
            settings.
    """
    configured = configured or {}
    interval = max(1, round(settings.timeout / ALIVE_PROBES))
    options = {
        # A connection of its own.
        "ControlMaster": "no",
        "ControlPath": "none",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "Tunnel": "no",
        "RemoteCommand": "none",
        "PermitLocalCommand": "no",
        # ssh gives up one interval after the last unanswered probe; an interval of 0 is never.
        "ServerAliveInterval": str(interval),
        "ServerAliveCountMax": str(max(1, math.ceil(settings.timeout / interval) - 1)),
        "ConnectTimeout": str(math.ceil(connect_timeout or settings.timeout)),
        "LogLevel": "DEBUG" if settings.verbose else "VERBOSE",
    }
    options |= {option: value for option, value in NEW_OPTIONS if option.lower() in configured}
    if ciphers := configured.get("ciphers"):
        ordered = sorted(ciphers.split(","), key=lambda cipher: cipher not in FAST_CIPHERS)
        options["Ciphers"] = ",".join(ordered)
    return [
        *settings.command,
        *settings.options,
        *("-x", "-T", "-e", "none"),
        *(["-C"] if settings.compress else []),
        *(f"-o{key}={value}" for key, value in options.items()),
        "--",
        settings.target.login,
        remote_command(settings),
    ]


def login_address(line: str) -> str | None:
    """Return the IP address in the line that ssh prints at the login; None if it has none."""
    found = re.search(r"\(\[([0-9A-Fa-f.:]+)\]:\d+\)", line)
    return found[1] if found else None


def diagnose(
    settings: SshSettings, status: int | None, stderr: list[str], *, sudo: bool = False
) -> VknetError:
    """Return the error that explains the exit of ssh: the cause and the remedy.

    Args:
        settings: how ssh was run.
        status: its exit status; the negative number of the signal that killed it; None if it is
            still running.
        stderr: the last lines of its stderr.
        sudo: whether vknet was started by sudo, so that ssh has the keys of root.
    """
    host = settings.target.host
    ssh = ["sudo", "ssh"] if sudo else ["ssh"]
    by_hand = shlex.join([*ssh, *settings.options, settings.target.login, "true"])
    own = [line for line in stderr if line.startswith(STARTER)]
    lines = [line for line in stderr if not line.startswith((STARTER, *VERBOSE_ONLY))]
    if status is None:
        return PeerGone(f"{host} closed the stream")
    if status < 0:
        return PeerGone(f"ssh was killed by {_signal_name(-status)}")
    if status == 0:
        return PeerGone(f"{host} ended the link")
    last = f": {lines[-1]}" if lines else ""
    if own and status in (NOT_FOUND, NOT_EXECUTABLE):
        reason = own[-1].rpartition(": ")[2]
        return SetupError(f"cannot run {settings.command[0]}: {reason}; is its interpreter there?")
    if status == NOT_FOUND:
        return SetupError(
            f'"{settings.remote_vknet}" was not found on {host};'
            " install it there, or give its path with --remote-command"
            " (or in the forced command, if there is one)",
            refused=True,
        )
    if status == NOT_EXECUTABLE:
        return SetupError(
            f'"{settings.remote_vknet}" on {host} may not be executed{last}', refused=True
        )
    if status != SSH_FAILED:
        program = f"vknet on {host}"
        if settings.command != DEFAULT_SSH:
            # Another program in place of ssh may exit with any status itself.
            program = f"{shlex.join(settings.command)}, or {program},"
        hint = "" if lines else f" and no message; a shell that ends early? try: {by_hand}; echo $?"
        return SetupError(f"{program} ended with status {status}{last}{hint}", refused=True)
    for pattern, text in SSH_ERRORS:
        if line := next((line for line in reversed(lines) if pattern in line), None):
            return PeerGone(
                text.format(host=host, by_hand=by_hand, line=line), refused=pattern in REFUSALS
            )
    if lines and (killed := re.fullmatch(KILLED + r"(\d{1,3})\.?", lines[-1])):
        return PeerGone(f"ssh was killed by {_signal_name(int(killed[1]))}")
    for line in lines:
        if any(pattern in line for pattern in USAGE_ERRORS):
            return UsageError(f"ssh refuses its options: {line}")
    return PeerGone(f"the connection to {host} broke{last}")


def _signal_name(number: int) -> str:
    names = {known.value: known.name for known in signal.Signals}
    return names.get(number, f"signal {number}")


# The messages of ssh about a command line or a configuration that it cannot use.
USAGE_ERRORS: Final = (
    "Bad configuration option",
    "Bad port",
    "Can't open user config file",
    "command-line line",
    "jumphost loop",
    "terminating, 1 bad configuration options",
    "usage: ssh",
)


UNREACHABLE: Final = "{host} cannot be reached ({line}); check its address and the route to it"

# The messages of ssh, and what they mean.  The first that matches any line counts.
SSH_ERRORS: Final = (
    (
        "Host key verification failed",
        "the host key of {host} is not known or has changed; check it by hand: {by_hand}",
    ),
    ("Permission denied", "login refused ({line}); check user and key by hand: {by_hand}"),
    ("Too many authentication failures", "login refused ({line}); name the key with -i"),
    (
        "Could not resolve hostname",
        "unknown host name ({line}); check {host} and its jump hosts",
    ),
    ("Connection refused", "no sshd answers on {host} ({line}); is it running, is the port right?"),
    ("not responding", "{host} has fallen silent ({line})"),
    ("timed out", UNREACHABLE),
    ("No route to host", UNREACHABLE),
    ("Network is unreachable", UNREACHABLE),
)

# Those that stay until a person changes a key or a configuration.
REFUSALS: Final = (
    "Host key verification failed",
    "Permission denied",
    "Too many authentication failures",
)


def shows_login(settings: SshSettings) -> bool:
    """Whether ssh shows the login: not if the user chose the log level or another program."""
    given = [value.lower() for option, value in pairwise(settings.options) if option == "-o"]
    chosen = any(value.startswith("loglevel") for value in given)
    return settings.command == DEFAULT_SSH and not chosen
