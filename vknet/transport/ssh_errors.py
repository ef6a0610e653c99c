"""The meaning of the exit of ssh(1), and of what ssh and the remote side wrote.  Pure."""

from __future__ import annotations

import re
import shlex
import signal
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from vknet.errors import PeerGone, SetupError, UsageError
from vknet.transport.ssh_command import DEFAULT_SSH, STARTER, remote_arguments
from vknet.transport.ssh_config import SshConfig

if TYPE_CHECKING:
    from vknet.errors import VknetError
    from vknet.transport.ssh_command import SshSettings

__all__ = [
    "AUTHENTICATED",
    "SLOW_BANNER",
    "VERBOSE_ONLY",
    "SshExit",
    "asks_for_password",
    "diagnose",
    "follows_from_proxy",
    "has_remote_text",
    "password_error",
    "without_unknown_port",
]

# The lines that ssh logs only because of LogLevel=VERBOSE: the first one after the login.  "Killed
# by signal" also follows our own SIGTERM; if it was not ours, the diagnosis names the signal.
AUTHENTICATED: Final = "Authenticated to "
KILLED: Final = "Killed by signal "
VERBOSE_ONLY: Final = (
    AUTHENTICATED,
    KILLED,
    "Transferred: sent ",
    "Bytes per second: sent ",
    "Learned new hostkey: ",
    "Adding new key for ",
    "Deprecating obsolete hostkey: ",
)

# sshd accepted the connection, but has not sent its first line in time.
SLOW_BANNER: Final = "timed out during banner exchange"

# The messages of ssh that quote the remote side before the login, when anybody on the path may have
# written the text.
REMOTE_TEXT: Final = ("Received disconnect from ", "Unable to negotiate with ")

# What ssh calls the peer of a connection through a jump host or a proxy command.
UNKNOWN_PORT: Final = "UNKNOWN port 65535"
THE_PROXY: Final = "the jump host or proxy"

# Exit statuses: of ssh itself (ssh(1)), and of the remote shell (POSIX, sh, EXIT STATUS).
SSH_FAILED: Final = 255
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126

NEEDED: Final = "Python 3.11 or later with the packages trio and pyroute2"


@dataclass(frozen=True, slots=True)
class SshExit:
    """How a run of ssh ended.

    Attributes:
        status: the exit status of ssh; the negative number of the signal that killed it; None if it
            is still running.
        lines: the last lines that the remote side and ssh wrote.
        own: those of ssh itself, up to the first that quotes the remote side; None if they cannot
            be told from the others.
        accepted: whether ssh has accepted its options and its configuration.
        sudo: whether vknet was started by sudo, so that ssh has the keys of root.
        answered: whether the remote side has proved to be vknet.
        raised: the last line of a traceback of Python on the remote side; None if there was none.
        python: the version of Python in that traceback, if it showed one.
        config: what ssh says about the host.
    """

    status: int | None
    lines: list[str] = field(default_factory=list)
    sudo: bool = False
    answered: bool = False
    raised: str | None = None
    python: str | None = None
    config: SshConfig = field(default_factory=lambda: SshConfig({}))
    own: list[str] | None = None
    accepted: bool = False


def has_remote_text(line: str) -> bool:
    """Whether ssh quotes the remote side in this line.

    The text may have line ends in it, so the lines after it need not be those of ssh.  ssh ends
    after such a line.
    """
    return any(quote in line for quote in REMOTE_TEXT)


def follows_from_proxy(line: str) -> bool:
    """Whether ssh says only that its connection through a jump host or a proxy ended."""
    return THE_PROXY in line or line.startswith(("kex_exchange_identification: ", "stdio forw"))


def without_unknown_port(line: str) -> str:
    """Return the line with a name for the peer that ssh cannot name."""
    return line.replace(UNKNOWN_PORT, THE_PROXY)


def diagnose(settings: SshSettings, ended: SshExit) -> VknetError:
    """Return the error that explains the exit of ssh: the cause and the remedy."""
    host, status = settings.target.host, ended.status
    own = [line for line in ended.lines if line.startswith(STARTER)]
    lines = [line for line in ended.lines if _is_message(line) and not line.startswith(STARTER)]
    if status is None:
        return PeerGone(f"{host} closed the stream")
    if status < 0:
        return PeerGone(f"ssh was killed by {_signal_name(-status)}")
    if own and status in (NOT_FOUND, NOT_EXECUTABLE):
        reason = own[-1].rpartition(": ")[2]
        return SetupError(f"cannot run {settings.command[0]}: {reason}; is its interpreter there?")
    if status == SSH_FAILED:
        return _ssh_failed(settings, ended, lines)
    if settings.command != DEFAULT_SSH and not ended.answered:
        for line in lines:
            if match := UNKNOWN_OPTION.search(line):
                return UsageError(
                    f"{settings.command[0]} does not take the option {match[1]} ({line});"
                    " -e needs a program with the options of OpenSSH's ssh"
                )
    if status == 0 and ended.answered:
        return PeerGone(f"{host} ended the link")
    return _remote_failed(settings, ended, lines)


def _remote_failed(settings: SshSettings, ended: SshExit, lines: list[str]) -> VknetError:
    """Explain the exit of the remote command."""
    host, status, name = settings.target.host, ended.status, settings.remote_vknet
    last = f": {_cause(lines)}" if lines else ""
    if asking := next(filter(asks_for_password, lines), None):
        return password_error(settings, ended.config, asking)
    for line in reversed(lines):
        if "restricted" in line and status in (1, NOT_FOUND, NOT_EXECUTABLE):
            return SetupError(
                f"the login shell of {host} is restricted ({line}); put vknet in a directory of its"
                " PATH, and give --remote-command a name without a slash",
                refused=True,
            )
        if re.fullmatch(r"(sudo|doas): .*: command not found", line):
            return SetupError(
                f"{host}: {line}; give --remote-command the path of vknet there", refused=True
            )
    if status == NOT_FOUND:
        return SetupError(
            f'"{name}" was not found on {host}; install it there, or give its path with'
            " --remote-command (or in the forced command, if there is one)",
            refused=True,
        )
    if status == NOT_EXECUTABLE:
        return SetupError(f'"{name}" on {host} may not be executed{last}', refused=True)
    says_why = bool(lines) and lines[-1].startswith("vknet: ")
    if ended.raised is not None and not ended.answered and not says_why:
        return SetupError(_python_error(host, ended.raised, ended.python), refused=True)
    if status == 0:
        return PeerGone(
            f'"{name}" on {host} ended without an answer{last}; is it vknet? if a forced command'
            " runs instead of it, it must run vknet -S",
            refused=True,
        )
    program = f"vknet on {host}"
    if settings.command != DEFAULT_SSH:
        # Another program in place of ssh may exit with any status itself.
        program = f"{shlex.join(settings.command)}, or {program},"
    by_hand = _by_hand(settings, ended)
    hint = "" if lines else f" and no message; a shell that ends early? try: {by_hand}; echo $?"
    return SetupError(f"{program} ended with status {status}{last}{hint}", refused=True)


def _ssh_failed(settings: SshSettings, ended: SshExit, lines: list[str]) -> VknetError:
    """Explain the exit of ssh itself."""
    by_hand, proxy = _by_hand(settings, ended), ended.config.proxy
    own = lines if ended.own is None else [line for line in ended.own if _is_message(line)]
    # What ssh says about the jump host comes before what follows from it.
    lines, own = _without_unknown_ports(lines), _without_unknown_ports(own)
    for pattern, text in SSH_ERRORS:
        line = next((line for line in reversed(own) if _says(line, pattern)), None)
        if line is not None and (text is not BEYOND_PROXY or proxy is not None):
            host = _host_of(line, settings, ended)
            message = text.format(host=host, by_hand=by_hand, line=line, proxy=proxy)
            return PeerGone(message, refused=pattern in REFUSALS)
    if own and (killed := re.fullmatch(KILLED + r"(\d{1,3})\.?", own[-1])):
        return PeerGone(f"ssh was killed by {_signal_name(int(killed[1]))}")
    if not ended.accepted and not ended.answered:
        for line in own:
            if USAGE_ERROR.match(line):
                return UsageError(f"ssh refuses its options: {line}")
    last = f": {lines[-1]}" if lines else ""
    return PeerGone(f"the connection to {settings.target.host} broke{last}")


def _says(line: str, pattern: str) -> bool:
    """Whether ssh itself says this, or a server gives the one reason that has a remedy here."""
    return pattern in line and (pattern == TOO_MANY_FAILURES or not has_remote_text(line))


def _is_message(line: str) -> bool:
    """Whether ssh would log the line at its default level, or says what killed it."""
    return line.startswith(KILLED) or not line.startswith(VERBOSE_ONLY)


def _without_unknown_ports(lines: list[str]) -> list[str]:
    """Leave out the lines about a peer that ssh cannot name, or name it if there are no others."""
    return [line for line in lines if UNKNOWN_PORT not in line] or [
        without_unknown_port(line) for line in lines
    ]


def _host_of(line: str, settings: SshSettings, ended: SshExit) -> str:
    """Return the host that a message is about: the target or a jump host."""
    host, proxy = settings.target.host, ended.config.proxy
    named = next((match[1] for pattern in NAMED if (match := pattern.search(line))), None)
    if proxy is None or named in (host, ended.config.hostname):
        return host
    if named is not None:
        return f"the jump host {named}"
    return f"{host} or of {proxy}" if "Host key" in line else host


def _cause(lines: list[str]) -> str:
    """Return the last line, without the name of the program if it is our own."""
    return lines[-1].removeprefix("vknet: ")


def _by_hand(settings: SshSettings, ended: SshExit) -> str:
    """Return the command that a user can try."""
    ssh = ["sudo", "ssh"] if ended.sudo else ["ssh"]
    return shlex.join([*ssh, *settings.options, settings.target.login, "true"])


def _signal_name(number: int) -> str:
    names = {known.value: known.name for known in signal.Signals}
    return names.get(number, f"signal {number}")


def _python_error(host: str, raised: str, python: str | None) -> str:
    if match := re.fullmatch(r"ModuleNotFoundError: No module named '(trio|pyroute2)'", raised):
        return (
            f"vknet on {host} lacks the Python package {match[1]}; install it there, for the Python"
            " that runs vknet"
        )
    version = "" if python is None else f" with Python {python}"
    return f"vknet on {host} does not start{version} ({raised}); it needs {NEEDED}"


# --- a password for the remote command ------------------------------------------------------------


def asks_for_password(line: str) -> bool:
    """Whether sudo or doas on the remote side wants a password: a message or a prompt."""
    return any(pattern.match(line) for pattern in PASSWORD_WANTED)


def password_error(settings: SshSettings, config: SshConfig, line: str) -> SetupError:
    """Return the error for a remote command that wants a password: the line for its sudoers."""
    host = settings.target.host
    user = settings.target.user or config.options.get("user") or "USER"
    try:
        program = shlex.split(settings.remote_vknet)[-1]
    except (ValueError, IndexError):
        program = ""
    if not PurePosixPath(program).is_absolute():
        program = "/usr/local/bin/vknet"
    arguments = remote_arguments(settings)
    if line.startswith("doas"):
        command = f"permit nopass {user} cmd {program} args {shlex.join(arguments)}"
        return SetupError(
            f"doas on {host} wants a password, and stdin is the link ({line.strip()}); add to"
            f" doas.conf there: {command}",
            refused=True,
        )
    # sudoers(5): these characters need a backslash in an argument.
    quoted = [re.sub(r"([\\=:, ])", r"\\\1", argument) for argument in arguments]
    return SetupError(
        f"sudo on {host} wants a password, and stdin is the link ({line.strip()}); add to sudoers"
        f" there: {user} ALL = (root) NOPASSWD: {' '.join([program, *quoted])}",
        refused=True,
    )


PASSWORD_WANTED: Final = tuple(
    map(
        re.compile,
        (
            r"sudo: (a password|a terminal) is required",
            r"sudo: (no tty present|sorry, you must have a tty|\d+ incorrect password)",
            r"sudo: (no password was provided|timed out reading password)",
            r"\[sudo\]",
            r"doas: (a tty is required|Auth|tty)",
            r"doas \(.*\) password",
        ),
    )
)

# --- the messages of ssh --------------------------------------------------------------------------

# How programs other than OpenSSH refuse an option; that option.
UNKNOWN_OPTION: Final = re.compile(
    r"(?i)(?:unknown|unrecogni[sz]ed|invalid|illegal|bad|unsupported)"
    r" (?:configuration )?(?:option|argument|flag|switch)s?:?(?: --)? ['\"]?(-?-?\w[\w=]*)"
)

# The messages of ssh about a command line or a configuration that it cannot use.
USAGE_ERROR: Final = re.compile(
    r"command-line:? line \d|[^:]+: line \d+: Bad configuration option"
    r"|[^:]+: terminating, \d+ bad configuration options|(?:ssh: )?Bad port "
    r"|Can't open user config file |hostname contains invalid characters|jumphost loop "
    r"|remote username contains invalid characters|usage: ssh \["
)


# The host that a message names.
NAMED: Final = tuple(
    map(
        re.compile,
        (
            r"Could not resolve hostname (\S+): ",
            r"connect to host (\S+) port ",
            r"^(?:\S+@)?(\S+): Permission denied",
        ),
    )
)

UNREACHABLE: Final = "{host} cannot be reached ({line}); check its address and the route to it"
BEYOND_PROXY: Final = "{host} cannot be reached from {proxy} ({line})"

# sshd gives it as the reason of a disconnect.
TOO_MANY_FAILURES: Final = "Too many authentication failures"

# The messages of ssh, and what they mean.  The first that matches any line counts.
SSH_ERRORS: Final = (
    ("Could not resolve hostname", "unknown host name ({line}); check {host}"),
    (
        "Host key verification failed",
        "the host key of {host} is not known or has changed; check it by hand: {by_hand}",
    ),
    ("Permission denied", "login refused ({line}); check user and key of {host}: {by_hand}"),
    (TOO_MANY_FAILURES, "login refused ({line}); name the key with -i"),
    ("open failed: ", BEYOND_PROXY),
    (
        SLOW_BANNER,
        "sshd on {host} does not answer ({line}); is it slow? then give -o ConnectTimeout=120",
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
    TOO_MANY_FAILURES,
)
