"""ssh(1) as a byte stream: its command line, its subprocess, and what its end means.

Theory.  The connection is vknet's own, whatever the user's ssh_config says: an option on the
command line comes before the files, and the first value wins; so the user's options go first, then
those below.  ssh runs with the user's terminal, so passwords, host keys and second factors are
asked for as ever; its stdin and stdout are the link, its stderr is passed on line by line.

`LogLevel=VERBOSE` makes ssh say when it has authenticated.  From then on there are no more prompts,
and silence means something.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shlex
import signal
import subprocess
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from vknet.carrier import Carrier
from vknet.errors import PeerGone, SetupError, UsageError, printable
from vknet.health import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio.abc import ReceiveStream, Stream

    from vknet.carrier import StartSoon
    from vknet.errors import VknetError
    from vknet.spec import Target

__all__ = ["SshCarrier", "SshSettings", "remote_command", "ssh_argv"]

log = logging.getLogger("vknet")

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

# A human may be typing a password; sshd's LoginGraceTime gives them as long.
LOGIN_PATIENCE: Final = 120.0
LOGIN_MARGIN: Final = 2.0

# `ssh -G` answers in 10 ms, unless the user's configuration runs commands that take long.
CONFIGURATION_PATIENCE: Final = 5.0

# The ways out of ssh, each after the one before: the end of its input, SIGTERM, SIGKILL.
END_GRACE: Final = 0.5
TERM_GRACE: Final = 0.5

# What is passed on of stderr: characters of a line, lines a second; and bytes read at once.
STDERR_LINE: Final = 2000
STDERR_RATE: Final = 100
STDERR_PIECE: Final = 4096
TAIL_LINES: Final = 8

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
    """

    target: Target
    remote_bridge: str | None = None
    compress: bool = False
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ("ssh",)
    remote_vknet: str = "vknet"
    timeout: float = DEFAULT_TIMEOUT
    verbose: bool = False


def remote_command(settings: SshSettings) -> str:
    """What the remote login shell is asked to run, as one string with every argument quoted."""
    bridge = [] if settings.remote_bridge is None else ["-b", settings.remote_bridge]
    arguments = ["-S", "-B", MARK, *bridge, settings.target.spec]
    return f"exec {settings.remote_vknet} {shlex.join(arguments)}"


def ssh_argv(settings: SshSettings, configured: Mapping[str, str] | None = None) -> list[str]:
    """The whole command line of ssh.

    Args:
        settings: what to reach, and how.
        configured: what `ssh -G` says this ssh is configured to do for this host; nothing that it
            does not name is asked of it.  None where it will not say.
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
        "ConnectTimeout": str(math.ceil(settings.timeout)),
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


async def ssh_configuration(settings: SshSettings) -> dict[str, str]:
    """What ssh is configured to do for this host: its keywords, in lower case, and their values.

    Empty where this ssh will not say: `ssh -G` is OpenSSH's.
    """
    if Path(settings.command[0]).name != "ssh":
        return {}
    argv = [*settings.command, "-G", *settings.options, "--", settings.target.login]
    stdout = b""
    with trio.move_on_after(CONFIGURATION_PATIENCE):
        try:
            done = await trio.run_process(
                argv,
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
                check=False,
                deliver_cancel=_kill,
            )
        except OSError:
            return {}
        stdout = done.stdout
    lines = stdout.decode(errors="replace").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


async def _kill(process: trio.Process) -> None:
    process.kill()


class SshCarrier(Carrier):
    """A link's byte stream through an ssh subprocess."""

    def __init__(self, settings: SshSettings) -> None:
        super().__init__(settings.target.host)
        self._settings = settings
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process: trio.Process | None = None
        self._exited = trio.Event()
        self._all_said = trio.Event()
        self._login = trio.CancelScope()
        self._second = -math.inf
        self._lines = 0
        if _tells_of_login(settings):
            self._patience = _login_patience(settings.timeout)
        else:
            self._patience = math.inf
            self.reached.set()

    async def open(self, start_soon: StartSoon) -> Stream:
        argv = ssh_argv(self._settings, await ssh_configuration(self._settings))
        log.debug("running: %s", shlex.join(argv))
        try:
            process = await trio.lowlevel.open_process(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except PermissionError as exc:
            raise SetupError(f"cannot run {argv[0]}: {exc.strerror}; is it executable?") from exc
        except OSError as exc:
            raise SetupError(f"cannot run {argv[0]}: {exc.strerror}; is it installed?") from exc
        start_soon(self._hold, process)
        # They were asked for as pipes.
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        start_soon(self._pass_on_stderr, process.stderr)
        return trio.StapledStream(process.stdin, process.stdout)

    async def why_ended(self) -> VknetError:
        with trio.move_on_after(END_GRACE):
            await self._exited.wait()
            await self._all_said.wait()
        return self._diagnosis()

    async def _hold(self, process: trio.Process) -> None:
        """Hold the subprocess: wait for its end, or when cancelled bring it about."""
        self._process = process
        try:
            with self._login:
                self._login.deadline = trio.current_time() + self._patience
                await process.wait()
            if process.returncode is None:
                raise PeerGone(f"no login to {self.peer} within {self._patience:g} s")
            self._exited.set()
            # The pumps read what is still in the pipe, perhaps a reason, and then see its end;
            # this is for a pipe that some other process holds open.
            await trio.sleep(2 * END_GRACE)
            raise self._diagnosis()
        finally:
            with trio.CancelScope(shield=True):
                await _end(process)

    async def _pass_on_stderr(self, stderr: ReceiveStream) -> None:
        """Log what ssh and the remote side say, line by line, and remember the last of it."""
        rest = b""
        # Read in pieces that make few lines; a side that never ends talking is read, and cut short.
        async with stderr:
            while data := await stderr.receive_some(STDERR_PIECE):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > STDERR_LINE:
                    lines.append(rest)
                    rest = b""
                for line in lines:
                    self._said(line)
            if rest:
                self._said(rest)
        self._all_said.set()

    def _said(self, raw: bytes) -> None:
        now = trio.current_time()
        if now - self._second >= 1:
            if self._lines > STDERR_RATE:
                log.warning("%s: (%d more lines)", self.peer, self._lines - STDERR_RATE)
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > STDERR_RATE:
            return
        line = printable(raw.rstrip(b"\r"), STDERR_LINE)
        if AUTHENTICATED in line:
            self._login.deadline = math.inf
            self.reached.set()
        if line:
            self._tail.append(line)
        # That a signal has ended it is said once the link has ended, if it was not we who asked.
        if line and (self._settings.verbose or not line.startswith((*CHATTER, KILLED))):
            log.warning("%s: %s", self.peer, line)

    def _diagnosis(self) -> VknetError:
        status = None if self._process is None else self._process.returncode
        return diagnose(self._settings, status, list(self._tail))


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
        return SetupError(f"vknet on {host} ended with status {status}{last}")
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


def _tells_of_login(settings: SshSettings) -> bool:
    """Whether this ssh will say that it has logged in: not if the user chose how much it says."""
    given = [value.lower() for option, value in pairwise(settings.options) if option == "-o"]
    chosen = any(value.startswith("loglevel") for value in given)
    return settings.command == ("ssh",) and not chosen


def _login_patience(timeout: float) -> float:
    """Seconds a login may take: as long as a human may need, where ssh can ask one.

    Where it cannot, ssh's own ConnectTimeout, which ends first, has the better message.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        if "SSH_ASKPASS" not in os.environ:
            return timeout + LOGIN_MARGIN
    return max(LOGIN_PATIENCE, timeout + LOGIN_MARGIN)


async def _end(process: trio.Process) -> None:
    """Bring a process to its end, and reap it; each way out gets its time, the last one works.

    The first is the end of its input, which the link's writer brings about after its farewell.
    """
    for grace, then in ((END_GRACE, process.terminate), (TERM_GRACE, process.kill)):
        with trio.move_on_after(grace):
            await process.wait()
        if process.returncode is None:
            try:
                then()
            except PermissionError:
                # With -e "sudo ssh", say.
                log.error("no right to end ssh; as root: kill %d", process.pid)
                return
    await process.wait()
