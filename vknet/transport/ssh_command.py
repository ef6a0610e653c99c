"""ssh(1) without running it: its command line, and what its end means.  Pure.

Theory.  The connection is vknet's own, whatever the user's ssh_config says: an option on the
command line comes before the files, and the first value wins; so the user's options go first, then
those below.

`LogLevel=VERBOSE` makes ssh say when it has authenticated.  From then on there are no more prompts,
and silence means something.
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
    "CHATTER",
    "DEFAULT_SSH",
    "KILLED",
    "MARK",
    "SshSettings",
    "diagnose",
    "remote_command",
    "ssh_argv",
    "tells_of_login",
]

DEFAULT_SSH: Final = ("ssh",)

MARK: Final = "wire=2"
"""The value of -B that tells our own `-S` to speak v2; the program of 2008 ignores it there."""

ALIVE_PROBES: Final = 3

# A third faster than chacha20 where the processor has AES, and it rekeys less often.
FAST_CIPHERS: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")

# Of OpenSSH 8.7 and later; an older one ends when it is given them.
NEW_OPTIONS: Final = (
    ("StdinNull", "no"),
    ("ForkAfterAuthentication", "no"),
    ("SessionType", "default"),
)

# What ssh says only because of LogLevel=VERBOSE.
AUTHENTICATED: Final = "Authenticated to "
CHATTER: Final = (AUTHENTICATED, "Transferred: sent ", "Bytes per second: sent ")

SSH_FAILED: Final = 255
KILLED: Final = "Killed by signal "

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126


@dataclass(frozen=True, slots=True)
class SshSettings:
    """How to run ssh and what to run on the other side.

    Attributes:
        target: the host, and the endpoint on it.
        remote_bridge: the bridge the remote TAP joins.
        compress: ssh's -C.
        options: ssh's own options as the user gave them, ready for its command line.
        command: the ssh program, with options of its own perhaps.
        remote_vknet: shell words that run vknet on the other side.
        timeout: seconds of silence after which the connection counts as dead.
        verbose: have ssh explain itself.
        marked: tell the remote side that this one speaks v2.
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
    """What the remote login shell is asked to run, as one string with every argument quoted."""
    bridge = [] if settings.remote_bridge is None else ["-b", settings.remote_bridge]
    mark = ["-B", MARK] if settings.marked else []
    arguments = ["-S", *mark, *bridge, settings.target.spec]
    return f"exec {settings.remote_vknet} {shlex.join(arguments)}"


def ssh_argv(
    settings: SshSettings,
    configured: Mapping[str, str] | None = None,
    *,
    connect_timeout: float | None = None,
) -> list[str]:
    """The whole command line of ssh.

    Args:
        settings: what to reach, and how.
        configured: what `ssh -G` says this ssh is configured to do for this host; nothing that it
            does not name is asked of it.  None where it will not say.
        connect_timeout: seconds for connecting and the key exchange; the settings' timeout if None.
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
        # ssh gives up when one more interval passes than there may be probes; 0 is for ever.
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


def diagnose(settings: SshSettings, status: int | None, said: list[str]) -> VknetError:
    """What the end of ssh means for the user: the cause and the cure, in one line.

    Args:
        settings: how it was run.
        status: its exit status; below 0 the signal that killed it; None if it still runs.
        said: the last lines of its stderr.
    """
    host = settings.target.host
    by_hand = shlex.join(["ssh", *settings.options, settings.target.login, "true"])
    said = [line for line in said if not line.startswith(CHATTER)]
    if status is None:
        return PeerGone(f"{host} closed the stream")
    if status < 0:
        return PeerGone(f"ssh was killed by {_signal_name(-status)}")
    if status == 0:
        return PeerGone(f"{host} ended the link")
    last = f": {said[-1]}" if said else ""
    if status == NOT_FOUND:
        return SetupError(
            f'"{settings.remote_vknet}" was not found on {host};'
            " install it there, or say where it is with --remote-command"
            " (or in the forced command, if there is one)"
        )
    if status == NOT_EXECUTABLE:
        return SetupError(f'"{settings.remote_vknet}" on {host} may not be executed{last}')
    if status != SSH_FAILED:
        who = f"vknet on {host}"
        if settings.command != DEFAULT_SSH:
            # Only of ssh itself is it known which statuses are its own.
            who = f"{shlex.join(settings.command)}, or {who},"
        return SetupError(f"{who} ended with status {status}{last}")
    everything = "\n".join(said)
    for pattern, what in SSH_TROUBLES:
        if pattern in everything:
            line = next(line for line in reversed(said) if pattern in line)
            return PeerGone(what.format(host=host, by_hand=by_hand, line=line))
    if said and (killed := re.fullmatch(KILLED + r"(\d{1,3})\.?", said[-1])):
        return PeerGone(f"ssh was killed by {_signal_name(int(killed[1]))}")
    for line in said:
        if any(pattern in line for pattern in REFUSED_OPTIONS):
            return UsageError(f"ssh refuses its options: {line}")
    return PeerGone(f"the connection to {host} broke{last}")


def _signal_name(number: int) -> str:
    names = {known.value: known.name for known in signal.Signals}
    return names.get(number, f"signal {number}")


# What ssh says of a command line or a configuration that it cannot use.
REFUSED_OPTIONS: Final = (
    "Bad configuration option",
    "Bad port",
    "Can't open user config file",
    "command-line line",
    "jumphost loop",
    "terminating, 1 bad configuration options",
    "usage: ssh",
)


SSH_TROUBLES: Final = (
    # What ssh says; what that means, and what to do.
    (
        "Host key verification failed",
        "the host key of {host} is not known or has changed; check it by hand: {by_hand}",
    ),
    ("Permission denied", "login refused ({line}); check user and key by hand: {by_hand}"),
    ("Too many authentication failures", "login refused ({line}); name the key with -i"),
    ("Could not resolve hostname", "host {host} is unknown ({line}); check the name"),
    ("Connection refused", "no sshd answers on {host} ({line}); is it running, is the port right?"),
    ("not responding", "{host} has fallen silent ({line})"),
    ("timed out", "{host} cannot be reached ({line})"),
    ("No route to host", "{host} cannot be reached ({line})"),
    ("Network is unreachable", "{host} cannot be reached ({line})"),
)


def tells_of_login(settings: SshSettings) -> bool:
    """Whether this ssh will say that it has logged in: not if the user chose how much it says."""
    given = [value.lower() for option, value in pairwise(settings.options) if option == "-o"]
    chosen = any(value.startswith("loglevel") for value in given)
    return settings.command == DEFAULT_SSH and not chosen
