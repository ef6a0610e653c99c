"""The command line of ssh(1).  Pure.

vknet uses a connection of its own, whatever ssh_config(5) says.  ssh takes the first value given
for an option, and the command line precedes the files.  So the user's own options come before those
below.  Only the log level comes before the user's: with `LogLevel=VERBOSE` ssh logs that it has
logged in, and vknet itself leaves out what the level of the user hides.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vknet.transport.ssh_config import NEUTRAL_QOS, SshConfig
from vknet.wire.keepalive import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from vknet.spec import Target

__all__ = [
    "DEFAULT_SSH",
    "LOGIN_TIMEOUT_S",
    "STARTER",
    "WIRE2_MARK",
    "SshSettings",
    "remote_arguments",
    "remote_command",
    "ssh_argv",
]

DEFAULT_SSH: Final = ("ssh",)

WIRE2_MARK: Final = "wire=2"
"""The value of -B that tells `vknet -S` to speak v2.  The vknet of 2008 ignores -B with -S."""

LOGIN_TIMEOUT_S: Final = 120.0
"""The time for a login, in which a person may type a password or a directory may be slow: the
default LoginGraceTime of sshd."""

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

# The name of the shell that starts ssh (`vknet.transport.ssh`): its messages begin with it.
STARTER: Final = "vknet-exec"


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


def remote_arguments(settings: SshSettings) -> list[str]:
    """Return the arguments of vknet on the remote side."""
    bridge = [] if settings.remote_bridge is None else ["-b", settings.remote_bridge]
    mark = ["-B", WIRE2_MARK] if settings.marked else []
    return ["-S", *mark, *bridge, settings.target.spec]


def remote_command(settings: SshSettings) -> str:
    """Return the command for the remote login shell, with every argument quoted.

    It has no ``exec``, which a restricted shell refuses and which no assignment may follow.
    """
    return f"{settings.remote_vknet} {shlex.join(remote_arguments(settings))}"


def ssh_argv(
    settings: SshSettings,
    config: SshConfig | None = None,
    *,
    log_file: str | None = None,
    connect_timeout: float | None = None,
) -> list[str]:
    """Return the command line of ssh.

    Args:
        settings: the host, and how to reach it.
        config: what ssh says about this host; None or empty if that is not known.
        log_file: where ssh writes its own messages; None for stderr, where they cannot be told from
            those of others.
        connect_timeout: seconds for connecting and sshd's first line; None means the timeout of the
            settings.
    """
    config = config or SshConfig({})
    # A connection of its own.
    options = {
        "ControlMaster": "no",
        "ControlPath": "none",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "Tunnel": "no",
        "RemoteCommand": "none",
        "PermitLocalCommand": "no",
    }
    options |= _alive_options(settings, config)
    if config.connect_timeout is None:
        timeout = connect_timeout or settings.timeout
        if config.proxy is not None:
            # ssh counts the time in which a person logs in to the jump host.
            timeout = max(timeout, LOGIN_TIMEOUT_S)
        options["ConnectTimeout"] = str(math.ceil(timeout))
    if config.default_qos:
        options["IPQoS"] = NEUTRAL_QOS
    options |= {option: value for option, value in NEW_OPTIONS if config.knows(option)}
    if ciphers := config.options.get("ciphers"):
        ordered = sorted(ciphers.split(","), key=lambda cipher: cipher not in FAST_CIPHERS)
        options["Ciphers"] = ",".join(ordered)
    level = []
    if settings.verbose and not config.debugs:
        level = ["-oLogLevel=DEBUG"]
    elif log_file is not None and not config.logs_login:
        level = ["-oLogLevel=VERBOSE"]
    return [
        *settings.command,
        *([] if log_file is None else ["-E", log_file]),
        *level,
        *settings.options,
        *("-x", "-T", "-e", "none"),
        *(["-C"] if settings.compress else []),
        *(f"-o{key}={value}" for key, value in options.items()),
        "--",
        settings.target.login,
        remote_command(settings),
    ]


def _alive_options(settings: SshSettings, config: SshConfig) -> dict[str, str]:
    """Return the options for ssh's probes; none if the user's own notice a dead peer in time."""
    interval = max(1, round(settings.timeout / ALIVE_PROBES))
    # ssh gives up one interval after the last unanswered probe; an interval of 0 is never.
    count = max(1, math.ceil(settings.timeout / interval) - 1)
    if config.dead_after is not None and config.dead_after <= interval * (count + 1):
        return {}
    return {"ServerAliveInterval": str(interval), "ServerAliveCountMax": str(count)}
