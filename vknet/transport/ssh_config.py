"""What ssh_config(5) and the command line say about a host, as `ssh -G` prints it.  Pure.

`ssh -G` prints the value of every option, but not whether the user has set it.  So ssh also reads
`PROBE_CONFIG`: the user's files, and after them values that no user sets.  ssh takes the first
value of an option, so a value of the probe shows that the files have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SshConfig", "parse_configuration", "probe_config", "takes_probe"]

SYSTEM_CONFIG: Final = "/etc/ssh/ssh_config"
USER_CONFIG: Final = "~/.ssh/config"

# The neutral class of traffic.  ssh's default is that of bulk data, which a priority queue sends
# last.
NEUTRAL_QOS: Final = "none"

# The levels of LogLevel at which ssh prints no messages that are for information only.
QUIET_LEVELS: Final = frozenset({"SILENT", "QUIET", "FATAL", "ERROR"})


@dataclass(frozen=True, slots=True)
class SshConfig:
    """The configuration of ssh for one host; empty if ssh is not OpenSSH.

    Attributes:
        options: the values by keyword, in lower case.
        default_qos: the user has chosen no IPQoS, and this ssh knows the neutral class.
    """

    options: Mapping[str, str]
    default_qos: bool = False

    def knows(self, option: str) -> bool:
        """Whether this ssh has the option."""
        return option.lower() in self.options

    @property
    def hostname(self) -> str | None:
        """The name or address that ssh connects to."""
        return self.options.get("hostname")

    @property
    def is_quiet(self) -> bool:
        """Whether the user wants no messages that are for information only."""
        return self.options.get("loglevel", "INFO") in QUIET_LEVELS

    @property
    def logs_login(self) -> bool:
        """Whether ssh logs the login at the level of the user."""
        return self.options.get("loglevel") == "VERBOSE" or self.debugs

    @property
    def debugs(self) -> bool:
        """Whether ssh logs debugging messages at the level of the user."""
        return self.options.get("loglevel", "").startswith("DEBUG")

    @property
    def proxy(self) -> str | None:
        """The jump host or the proxy command; None if ssh connects itself."""
        proxies = (self.options.get(key, "none") for key in ("proxyjump", "proxycommand"))
        return next((proxy for proxy in proxies if proxy != "none"), None)

    @property
    def connect_timeout(self) -> int | None:
        """The ConnectTimeout that the user has chosen, in seconds."""
        return _number(self.options.get("connecttimeout"))

    @property
    def dead_after(self) -> int | None:
        """The seconds of silence after which ssh ends the connection; None for never."""
        interval = _number(self.options.get("serveraliveinterval")) or 0
        count = _number(self.options.get("serveralivecountmax")) or 0
        return interval * (count + 1) if interval and count else None


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() else None


def takes_probe(command: Sequence[str]) -> bool:
    """Whether the command runs a program called ssh, such as ``sudo -u NAME ssh``.

    Any other program might connect instead of printing its configuration.
    """
    return "ssh" in (Path(command[0]).name, Path(command[-1]).name)


def probe_config(options: Sequence[str]) -> str:
    """Return the configuration file that shows what the user has left unset.

    Args:
        options: the user's options for ssh; a file of -F replaces the usual ones.
    """
    own = [value for option, value in pairwise(options) if option == "-F"]
    files = [str(Path(own[0]).absolute())] if own else [USER_CONFIG, SYSTEM_CONFIG]
    if own and own[0] == "none":
        files = []
    included = [f'Include "{name}"\n' for name in files if '"' not in name]
    return "".join([*included, "Match all\n", f"IPQoS {NEUTRAL_QOS}\n"])


def parse_configuration(printed: str, probed: str = "") -> SshConfig:
    """Read what `ssh -G` prints.

    Args:
        printed: with the user's configuration.
        probed: with that of `probe_config`; empty if ssh refused it.
    """
    options = _options(printed)
    if "hostname" not in options:
        return SshConfig({})
    return SshConfig(options, _options(probed).get("ipqos") == f"{NEUTRAL_QOS} {NEUTRAL_QOS}")


def _options(printed: str) -> dict[str, str]:
    lines = (line.partition(" ") for line in printed.splitlines())
    return {key: value for key, _, value in lines}
