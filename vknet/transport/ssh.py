"""ssh(1) as the transport of a link: a subprocess.

ssh keeps the controlling terminal, so it asks there for passwords, host keys and second factors as
usual.  Its stdin and stdout are the byte stream of the link.  Its stderr is logged, line by line.

The transport owns the subprocess: it ends and reaps it when the link ends.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
import shutil
import subprocess
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from vknet.errors import PeerGone, SetupError, escaped
from vknet.transport.base import Transport
from vknet.transport.known_lines import KnownLines
from vknet.transport.peer_address import PeerAddress
from vknet.transport.pipes import PipeStream
from vknet.transport.ssh_command import (
    AUTHENTICATED,
    KILLED,
    STARTER,
    VERBOSE_ONLY,
    diagnose,
    shows_login,
    ssh_argv,
)

if TYPE_CHECKING:
    from trio.abc import ReceiveStream

    from vknet.errors import VknetError
    from vknet.transport.base import ByteStream, StartSoon
    from vknet.transport.ssh_command import SshSettings

__all__ = ["SshDialer", "SshTransport"]

log = logging.getLogger(__name__)

# The time for a login if ssh can ask a person for a password: the default LoginGraceTime of sshd.
LOGIN_TIMEOUT_S: Final = 120.0

# The time that a login may take beyond ssh's ConnectTimeout, so that ssh ends first: its message is
# better.
LOGIN_MARGIN_S: Final = 2.0

# The shortest timeout for connecting after a loss.  TCP sends its SYN three times in this time: at
# 0, 1 and 3 seconds.
CONNECT_MIN_S: Final = 4.0

# `ssh -G` answers in 10 ms, unless the user's configuration runs slow commands (Match exec).
CONFIGURATION_TIMEOUT_S: Final = 5.0

# ssh ends by itself when its stdin ends; then it gets SIGTERM, then SIGKILL.
EOF_GRACE_S: Final = 0.5
TERM_GRACE_S: Final = 0.5

# The limits on what is logged of stderr: characters of a line, and lines per second.
STDERR_LINE_CHARS: Final = 2000
STDERR_LINES_PER_S: Final = 100

# The number of bytes to read from stderr at once.
STDERR_READ_BYTES: Final = 4096

# The number of last lines that a diagnosis looks at.
TAIL_LINES: Final = 8

# Runs a program with SIGUSR1 ignored, which exec preserves.  `systemctl kill -s USR1` sends the
# signal to every process of a unit, and would kill ssh.
IGNORE_USR1: Final = ("/bin/sh", "-c", 'trap "" USR1; exec "$@"', STARTER)


async def ssh_configuration(settings: SshSettings) -> dict[str, str]:
    """Return the configuration of ssh for this host, as `ssh -G` prints it.

    Returns:
        The values by keyword, in lower case.  Empty if this ssh is not OpenSSH, cannot be run, or
        does not answer in time.
    """
    if Path(settings.command[0]).name != "ssh":
        return {}
    argv = [*settings.command, "-G", *settings.options, "--", settings.target.login]
    stdout = b""
    with trio.move_on_after(CONFIGURATION_TIMEOUT_S):
        try:
            completed = await trio.run_process(
                [*IGNORE_USR1, *argv],
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
                check=False,
                deliver_cancel=_kill,
            )
        except OSError:
            return {}
        stdout = completed.stdout
    lines = stdout.decode(errors="replace").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


async def _kill(process: trio.Process) -> None:
    process.kill()


class SshTransport(Transport):
    """The byte stream of a link through an ssh subprocess.

    Args:
        settings: the host, and how to reach it.
        connect_timeout: seconds for connecting and the key exchange; None means the timeout of the
            settings.
        known_lines: the lines of earlier attempts, which are not logged again; None if there were
            none.
        peer_address: is told the address at the login; None if nobody asks for it.

    Attributes:
        login_time: seconds from the start of ssh to the login.  None before the login, or if the
            log level of ssh does not show it.
    """

    def __init__(
        self,
        settings: SshSettings,
        connect_timeout: float | None = None,
        known_lines: KnownLines | None = None,
        peer_address: PeerAddress | None = None,
    ) -> None:
        super().__init__(settings.target.host)
        self.login_time: float | None = None
        self._peer_address = PeerAddress() if peer_address is None else peer_address
        self._connect_timeout = connect_timeout
        self._started_at = math.inf
        self._settings = settings
        self._known_lines = KnownLines() if known_lines is None else known_lines
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process: trio.Process | None = None
        self._exited = trio.Event()
        self._stderr_ended = trio.Event()
        self._login_scope = trio.CancelScope()
        # The second for which lines are counted, by its start.
        self._second = -math.inf
        self._lines_in_second = 0
        if shows_login(settings):
            self._login_timeout = _login_timeout(settings.timeout)
        else:
            self._login_timeout = math.inf
            self.reached.set()

    async def open(self, start_soon: StartSoon) -> ByteStream:
        argv = ssh_argv(
            self._settings,
            await ssh_configuration(self._settings),
            connect_timeout=self._connect_timeout,
        )
        log.debug("running: %s", shlex.join(argv))
        if shutil.which(argv[0]) is None:
            raise SetupError(f"cannot run {argv[0]}; is it installed and executable?")
        try:
            process = await trio.lowlevel.open_process(
                [*IGNORE_USR1, *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as exc:
            raise SetupError(f"cannot run {argv[0]}: {exc.strerror}") from exc
        self._started_at = trio.current_time()
        start_soon(self._supervise, process)
        # open_process was asked for pipes.
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        start_soon(self._log_stderr, process.stderr)
        # trio uses FdStream for pipes on Unix.
        assert isinstance(process.stdin, trio.lowlevel.FdStream)
        assert isinstance(process.stdout, trio.lowlevel.FdStream)
        return PipeStream(process.stdin, process.stdout)

    async def why_ended(self) -> VknetError:
        with trio.move_on_after(EOF_GRACE_S):
            await self._exited.wait()
            await self._stderr_ended.wait()
        return self._diagnosis()

    async def _supervise(self, process: trio.Process) -> None:
        """Wait until the subprocess ends; if cancelled, end it.

        Raises:
            VknetError: it has ended, or there was no login in time.
        """
        self._process = process
        try:
            with self._login_scope:
                self._login_scope.deadline = trio.current_time() + self._login_timeout
                await process.wait()
            if process.returncode is None:
                raise PeerGone(f"no login to {self.peer} within {self._login_timeout:g} s")
            self._exited.set()
            # The link reads the rest of the stream, which may hold a BYE, and ends by itself.  This
            # error is for a pipe that another process still holds open.
            await trio.sleep(2 * EOF_GRACE_S)
            raise self._diagnosis()
        finally:
            with trio.CancelScope(shield=True):
                await _end(process)

    async def _log_stderr(self, stderr: ReceiveStream) -> None:
        """Log the lines of ssh and of the remote command, and keep the last ones."""
        rest = b""
        # Small reads, so that one turn of the event loop handles few lines.  stderr is read to its
        # end, because ssh blocks while its pipe is full.
        async with stderr:
            while data := await stderr.receive_some(STDERR_READ_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > STDERR_LINE_CHARS:
                    lines.append(rest)
                    rest = b""
                for line in lines:
                    self._on_line(line)
            if rest:
                self._on_line(rest)
        self._stderr_ended.set()

    def _on_line(self, raw: bytes) -> None:
        now = trio.current_time()
        if AUTHENTICATED.encode() in raw:
            self._peer_address.on_login(raw.decode(errors="replace"))
            self._login_scope.deadline = math.inf
            self.login_time = now - self._started_at
            self.reached.set()
        if now - self._second >= 1:
            if self._lines_in_second > STDERR_LINES_PER_S:
                left_out = self._lines_in_second - STDERR_LINES_PER_S
                log.warning("%s: (%d more lines)", self.peer, left_out)
            self._second, self._lines_in_second = now, 0
        self._lines_in_second += 1
        if self._lines_in_second > STDERR_LINES_PER_S:
            return
        line = escaped(raw.rstrip(b"\r"), STDERR_LINE_CHARS)
        if line:
            self._tail.append(line)
        # What the starting shell says is for the diagnosis.
        if line.startswith(STARTER):
            return
        # "Killed by signal" also follows our own SIGTERM.  If it was not ours, the diagnosis names
        # the signal.
        if line and (self._settings.verbose or not line.startswith((*VERBOSE_ONLY, KILLED))):
            is_news = self.up.is_set() or self._known_lines.add(line)
            log.log(logging.WARNING if is_news else logging.DEBUG, "%s: %s", self.peer, line)

    def _diagnosis(self) -> VknetError:
        status = None if self._process is None else self._process.returncode
        return diagnose(self._settings, status, list(self._tail), sudo=under_sudo())


class SshDialer:
    """Creates the `SshTransport` of each link of `vknet.keep_linked`, and adapts its timeout.

    TCP repeats its SYN after 1, 3, 7 and 15 seconds, so one long attempt may notice only after
    eight seconds that a path works again.  Short attempts notice it sooner.  Once the time of a
    login is known, an attempt may connect for four times as long, and at least `CONNECT_MIN_S`
    seconds.  After two failures in a row the next attempt gets the whole timeout of the settings,
    because the path may have become slow; so does every third one after it.

    Args:
        settings: the host, and how to reach it.

    Attributes:
        peer_address: the address of the server.
    """

    def __init__(self, settings: SshSettings) -> None:
        self.peer_address = PeerAddress()
        self._settings = settings
        self._transport: SshTransport | None = None
        self._login_time: float | None = None
        self._failures = 0
        self._known_lines = KnownLines()

    def __call__(self) -> SshTransport:
        """Return the transport of the next link."""
        if self._transport is not None and self._transport.up.is_set():
            self._known_lines.clear()
        if self._transport is not None and self._transport.login_time is not None:
            self._login_time = self._transport.login_time
            self._failures = 0
        elif self._transport is not None:
            self._failures += 1
        self._transport = SshTransport(
            self._settings, self._connect_timeout(), self._known_lines, self.peer_address
        )
        return self._transport

    def _connect_timeout(self) -> float:
        if self._login_time is None or self._failures % 3 == 2:
            return self._settings.timeout
        return min(self._settings.timeout, max(CONNECT_MIN_S, 4 * self._login_time))


def under_sudo() -> bool:
    """Whether sudo(8) started this program as root."""
    return os.geteuid() == 0 and "SUDO_USER" in os.environ


def _login_timeout(timeout: float) -> float:
    """Return the seconds that a login may take; they are more if ssh can ask a person."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        if "SSH_ASKPASS" not in os.environ:
            return timeout + LOGIN_MARGIN_S
    return max(LOGIN_TIMEOUT_S, timeout + LOGIN_MARGIN_S)


async def _end(process: trio.Process) -> None:
    """End a process and reap it.

    Its stdin has ended: the link's sender ends the stream after its last block.  If the process is
    still running after `EOF_GRACE_S`, it gets SIGTERM, and after `TERM_GRACE_S` more SIGKILL.
    """
    for grace, signal_it in ((EOF_GRACE_S, process.terminate), (TERM_GRACE_S, process.kill)):
        with trio.move_on_after(grace):
            await process.wait()
        if process.returncode is None:
            try:
                signal_it()
            except PermissionError:
                # For example with -e "sudo ssh".
                log.error("no permission to end ssh; as root: kill %d", process.pid)
                return
    await process.wait()
