"""ssh(1) as a byte stream: a subprocess.

It runs with the user's terminal, so passwords, host keys and second factors are asked for as ever;
its stdin and stdout are the link, its stderr is passed on line by line.
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
from vknet.transport.pipes import PipeStream
from vknet.transport.ssh_command import (
    AUTHENTICATED,
    CHATTER,
    KILLED,
    diagnose,
    ssh_argv,
    tells_of_login,
)

if TYPE_CHECKING:
    from trio.abc import ReceiveStream

    from vknet.errors import VknetError
    from vknet.transport.base import ByteStream, StartSoon
    from vknet.transport.ssh_command import SshSettings

__all__ = ["SshDialer", "SshTransport"]

log = logging.getLogger(__name__)

# A human may be typing a password; sshd's LoginGraceTime gives them as long.
LOGIN_PATIENCE: Final = 120.0
LOGIN_MARGIN: Final = 2.0

# Long enough for TCP to ask three times: at once, after one second and after three.
QUICK: Final = 4.0

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


# Starts a program with SIGUSR1 ignored, which exec keeps: `systemctl kill -s USR1` reaches every
# process of a unit, and ssh would die of it.
SHIELD: Final = ("/bin/sh", "-c", 'trap "" USR1; exec "$@"', "sh")


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
                [*SHIELD, *argv],
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


class SshTransport(Transport):
    """A link's byte stream through an ssh subprocess.

    Args:
        settings: what to reach, and how.
        connect_timeout: seconds for connecting and the key exchange; the settings' timeout if None.

    Attributes:
        login_took: seconds from the start of ssh to the login; None before, or where ssh is not
            asked to tell.
    """

    def __init__(self, settings: SshSettings, connect_timeout: float | None = None) -> None:
        super().__init__(settings.target.host)
        self.login_took: float | None = None
        self._connect_timeout = connect_timeout
        self._started = math.inf
        self._settings = settings
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process: trio.Process | None = None
        self._exited = trio.Event()
        self._all_said = trio.Event()
        self._login = trio.CancelScope()
        self._second = -math.inf
        self._lines = 0
        if tells_of_login(settings):
            self._patience = _login_patience(settings.timeout)
        else:
            self._patience = math.inf
            self.reached.set()

    async def open(self, start_soon: StartSoon) -> ByteStream:
        argv = ssh_argv(
            self._settings,
            await ssh_configuration(self._settings),
            connect_timeout=self._connect_timeout,
        )
        log.debug("running: %s", shlex.join(argv))
        if shutil.which(argv[0]) is None:
            raise SetupError(f"cannot run {argv[0]}: is it installed, and executable?")
        try:
            process = await trio.lowlevel.open_process(
                [*SHIELD, *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as exc:
            raise SetupError(f"cannot run {argv[0]}: {exc.strerror}") from exc
        self._started = trio.current_time()
        start_soon(self._hold, process)
        # They were asked for as pipes.
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        start_soon(self._pass_on_stderr, process.stderr)
        # On this system they are what trio makes of pipes.
        assert isinstance(process.stdin, trio.lowlevel.FdStream)
        assert isinstance(process.stdout, trio.lowlevel.FdStream)
        return PipeStream(process.stdin, process.stdout)

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
        if AUTHENTICATED.encode() in raw:
            self._login.deadline = math.inf
            self.login_took = now - self._started
            self.reached.set()
        if now - self._second >= 1:
            if self._lines > STDERR_RATE:
                log.warning("%s: (%d more lines)", self.peer, self._lines - STDERR_RATE)
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > STDERR_RATE:
            return
        line = escaped(raw.rstrip(b"\r"), STDERR_LINE)
        if line:
            self._tail.append(line)
        # That a signal has ended it is said once the link has ended, if it was not we who asked.
        if line and (self._settings.verbose or not line.startswith((*CHATTER, KILLED))):
            log.warning("%s: %s", self.peer, line)

    def _diagnosis(self) -> VknetError:
        status = None if self._process is None else self._process.returncode
        return diagnose(self._settings, status, list(self._tail))


class SshDialer:
    """Makes one `SshTransport` after the other for `vknet.keep_linked`, and learns from each.

    A path that is back is noticed by the next packet that is sent.  TCP asks again after 1, 3, 7
    and 15 seconds, so whoever waits for 15 seconds may find the path after eight.  Once it is known
    how long a login takes, an attempt is given up after four times as long, and after `QUICK`
    seconds at the least, so that the next can begin.  Every third one in a row still gets all the
    time the settings allow, for a path that has become slow.
    """

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings
        self._transport: SshTransport | None = None
        self._login_took: float | None = None
        self._failures = 0

    def __call__(self) -> SshTransport:
        """The carrier of the next link."""
        if self._transport is not None and self._transport.login_took is not None:
            self._login_took = self._transport.login_took
            self._failures = 0
        elif self._transport is not None:
            self._failures += 1
        self._transport = SshTransport(self._settings, self._connect_timeout())
        return self._transport

    def _connect_timeout(self) -> float:
        if self._login_took is None or self._failures % 3 == 2:
            return self._settings.timeout
        return min(self._settings.timeout, max(QUICK, 4 * self._login_took))


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
