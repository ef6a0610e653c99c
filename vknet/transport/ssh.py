"""ssh(1) as the transport of a link: a subprocess.

ssh keeps the controlling terminal, so it asks there for passwords, host keys and second factors as
usual.  Its stdin and stdout are the byte stream of the link.  Its own messages go to a pipe that it
opens by name (-E).  Its stderr has those of jump hosts, of the server and of the remote command.
So only ssh itself can say that it has logged in; no line counts after one in which ssh quotes the
remote side.  Both are logged, line by line.

The transport owns the subprocess: it ends and reaps it when the link ends.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import trio

from vknet.errors import PeerGone, SetupError, escaped
from vknet.transport.base import Transport
from vknet.transport.known_lines import KnownLines
from vknet.transport.peer_address import PeerAddress
from vknet.transport.pipes import PipeStream
from vknet.transport.ssh_command import LOGIN_TIMEOUT_S, STARTER, ssh_argv
from vknet.transport.ssh_config import SshConfig
from vknet.transport.ssh_errors import (
    AUTHENTICATED,
    SLOW_BANNER,
    VERBOSE_ONLY,
    SshExit,
    asks_for_password,
    diagnose,
    follows_from_proxy,
    has_remote_text,
    password_error,
    without_unknown_port,
)
from vknet.transport.ssh_lines import LineRelay, Terminal
from vknet.transport.ssh_probe import read_configuration
from vknet.transport.ssh_process import LogPipe, as_child, end_process
from vknet.transport.tracebacks import TracebackFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.abc import ReceiveStream

    from vknet.errors import VknetError
    from vknet.transport.base import ByteStream, StartSoon
    from vknet.transport.ssh_command import SshSettings

__all__ = ["SshDialer", "SshTransport"]

log = logging.getLogger(__name__)

# The time that a login may take beyond ssh's ConnectTimeout, so that ssh ends first: its message is
# better.
LOGIN_MARGIN_S: Final = 2.0

# The time to wait for the exit status and the last lines of ssh.
EXIT_WAIT_S: Final = 0.5

# The longest part of a line that is logged, in characters.
LINE_CHARS: Final = 2000

# The number of bytes to read from stderr at once.
READ_BYTES: Final = 4096

# The number of last lines that a diagnosis looks at.
TAIL_LINES: Final = 8


class SshTransport(Transport):
    """The byte stream of a link through an ssh subprocess.

    Args:
        settings: the host, and how to reach it.
        connect_timeout: seconds for connecting and sshd's first line; None means the timeout of the
            settings.
        known_lines: the lines of earlier attempts, which are not logged again; None if there were
            none.
        peer_address: is told the address at the login; None if it is not needed.

    Attributes:
        slow_banner: sshd accepted the connection, but did not send its first line in time.
    """

    def __init__(
        self,
        settings: SshSettings,
        connect_timeout: float | None = None,
        known_lines: KnownLines | None = None,
        peer_address: PeerAddress | None = None,
    ) -> None:
        super().__init__(settings.target.host)
        self.slow_banner = False
        self._peer_address = PeerAddress() if peer_address is None else peer_address
        self._settings = settings
        self._connect_timeout = connect_timeout
        self._config = SshConfig({})
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._own_tail: deque[str] = deque(maxlen=TAIL_LINES)
        # Whether ssh has quoted the text of others, in its log and on stderr.
        self._log_quotes = self._stderr_quotes = False
        self._tracebacks = TracebackFilter()
        self._terminal: Terminal | None = None
        self._relay = LineRelay(
            self.peer,
            self._is_asking,
            self.up.is_set,
            KnownLines() if known_lines is None else known_lines,
        )
        self._process: trio.Process | None = None
        self._log: LogPipe | None = None
        self._exited = trio.Event()
        self._output_ended = trio.Event()
        self._outputs = 0

    async def open(self, start_soon: StartSoon) -> ByteStream:
        with ExitStack() as on_failure:
            program = self._settings.command[0]
            if shutil.which(program) is None:
                raise SetupError(f"cannot run {program}; is it installed and executable?")
            self._terminal = Terminal()
            on_failure.callback(self._terminal.close)
            log_pipe = on_failure.enter_context(LogPipe())
            self._config, takes_log = await read_configuration(self._settings)
            if takes_log:
                self._log = log_pipe
            else:
                log_pipe.close()
            argv = ssh_argv(
                self._settings,
                self._config,
                log_file=log_pipe.path if takes_log else None,
                connect_timeout=self._connect_timeout,
            )
            log.debug("running: %s", shlex.join(argv))
            try:
                process = await trio.lowlevel.open_process(
                    as_child(argv),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            except OSError as exc:
                raise SetupError(f"cannot run {program}: {exc.strerror}") from exc
            on_failure.pop_all()
        return self._start(process, start_soon)

    def _start(self, process: trio.Process, start_soon: StartSoon) -> ByteStream:
        """Start the tasks of a process, and return its stream."""
        self._process = process
        # open_process was asked for pipes.
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._outputs = 1
        start_soon(self._supervise, process)
        start_soon(self._relay.run)
        start_soon(self._read_lines, process.stderr, self._on_stderr)
        if self._log is not None:
            self._outputs = 2
            start_soon(self._read_lines, self._log.stream, self._on_log)
            start_soon(self._limit_login)
        else:
            # The login cannot be seen.
            self.sees_login = False
            self.reached.set()
        # trio uses FdStream for pipes on Unix.
        assert isinstance(process.stdin, trio.lowlevel.FdStream)
        assert isinstance(process.stdout, trio.lowlevel.FdStream)
        return PipeStream(process.stdin, process.stdout)

    async def why_ended(self) -> VknetError:
        with trio.move_on_after(EXIT_WAIT_S):
            await self._exited.wait()
            await self._output_ended.wait()
        return self._diagnosis()

    async def _supervise(self, process: trio.Process) -> None:
        """Wait until the subprocess ends; if cancelled, end it.

        Raises:
            VknetError: it has ended.
        """
        try:
            await process.wait()
            self._exited.set()
            if self._log is not None:
                self._log.end()
            # The link reads the rest of the stream, which may hold a BYE, and ends by itself.  This
            # error is for a pipe that another process still holds open.
            await trio.sleep(2 * EXIT_WAIT_S)
            raise self._diagnosis()
        finally:
            with trio.CancelScope(shield=True):
                await end_process(process)
            if self._log is not None:
                self._log.end()
            if self._terminal is not None:
                self._terminal.close()

    async def _limit_login(self) -> None:
        """End the link if there is no login in time: the first byte from the peer is one, too.

        Raises:
            PeerGone: there was no login.
        """
        connect_timeout = self._config.connect_timeout or self._settings.timeout
        timeout = max(LOGIN_TIMEOUT_S, connect_timeout + LOGIN_MARGIN_S)
        with trio.move_on_after(timeout) as scope:
            await self.reached.wait()
        if scope.cancelled_caught:
            raise PeerGone(f"no login to {self.peer} within {timeout:g} s")

    def _is_asking(self) -> bool:
        """Whether ssh may be asking for a password: there is no login yet, and no echo."""
        if self._terminal is None or (self.sees_login and self.reached.is_set()):
            return False
        return not self.answered and self._terminal.is_asking()

    # --- what ssh and the remote side say ---------------------------------------------------------

    async def _read_lines(self, stream: ReceiveStream, on_line: Callable[[str], None]) -> None:
        """Pass on each line of a stream, up to its end: ssh blocks while a pipe is full."""
        rest = b""
        # Small reads, so that one turn of the event loop handles few lines.
        async with stream:
            while data := await stream.receive_some(READ_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > LINE_CHARS:
                    lines.append(rest)
                    rest = b""
                for line in filter(None, (line.rstrip(b"\r") for line in lines)):
                    on_line(escaped(line, LINE_CHARS))
                # A prompt of sudo ends no line, and cannot be answered.
                if rest and asks_for_password(prompt := escaped(rest, LINE_CHARS)):
                    raise password_error(self._settings, self._config, prompt)
            if rest:
                on_line(escaped(rest, LINE_CHARS))
        self._outputs -= 1
        if not self._outputs:
            self._output_ended.set()

    def _on_log(self, line: str) -> None:
        """Handle a line of ssh itself."""
        # ssh logs line ends within the text of others as they are.
        if not self._log_quotes:
            if line.startswith(AUTHENTICATED):
                self._peer_address.on_login(line)
                self.reached.set()
            if SLOW_BANNER in line:
                self.slow_banner = True
            self._own_tail.append(line)
            self._log_quotes = has_remote_text(line)
        self._tail.append(line)
        on_terminal = self._terminal is not None and self._terminal.exists
        hidden = (
            self._config.is_quiet
            or (line.startswith(VERBOSE_ONLY) and not self._config.logs_login)
            # ssh asks again on the terminal, in the same moment.
            or (line.startswith("Permission denied, please try again") and on_terminal)
        )
        if self._settings.verbose or not hidden:
            self._relay.add(f"ssh: {without_unknown_port(line).removeprefix('ssh: ')}")

    def _on_stderr(self, line: str) -> None:
        """Handle a line of the remote side, of the server, or of the ssh to a jump host."""
        shown = self._tracebacks.feed(line)
        if shown is None:
            log.debug("%s: %s", self.peer, line)
            return
        self._tail.append(shown)
        if self._may_be_own() and not self._stderr_quotes:
            self._own_tail.append(shown)
            self._stderr_quotes = has_remote_text(shown)
        # What the starting shell says is for the diagnosis.
        if not shown.startswith(STARTER):
            before_login = self.sees_login and not self.reached.is_set()
            name = "ssh" if before_login else self.peer
            self._relay.add(f"{name}: {without_unknown_port(shown).removeprefix('ssh: ')}")

    def _may_be_own(self) -> bool:
        """Whether a line of stderr may be one of ssh itself, or of the ssh to a jump host."""
        if self._log is None:
            return not self.answered
        return self._config.proxy is not None and not self.reached.is_set()

    def _diagnosis(self) -> VknetError:
        ended = SshExit(
            None if self._process is None else self._process.returncode,
            list(self._tail),
            sudo=under_sudo(),
            answered=self.answered,
            raised=self._tracebacks.raised,
            python=self._tracebacks.python,
            config=self._config,
            own=[line for line in self._own_tail if not line.startswith(STARTER)],
            # `ssh -G` has read both, a moment before.
            accepted=self._log is not None,
        )
        error = diagnose(self._settings, ended)
        follows = follows_from_proxy if self._config.proxy is not None else _never
        self._relay.leave_out(str(error), follows)
        return error


def _never(_line: str) -> bool:
    return False


class SshDialer:
    """Creates the `SshTransport` of each link of `vknet.keep_linked`.

    If sshd accepted the last connection but was slow to answer, the next attempt gets the time of a
    login for it.

    Args:
        settings: the host, and how to reach it.

    Attributes:
        peer_address: the address of the server.
    """

    def __init__(self, settings: SshSettings) -> None:
        self.peer_address = PeerAddress()
        self._settings = settings
        self._transport: SshTransport | None = None
        self._known_lines = KnownLines()

    def __call__(self) -> SshTransport:
        """Return the transport of the next link."""
        if self._transport is not None and self._transport.up.is_set():
            self._known_lines.clear()
        slow = self._transport is not None and self._transport.slow_banner
        timeout = max(self._settings.timeout, LOGIN_TIMEOUT_S) if slow else None
        self._transport = SshTransport(
            self._settings, timeout, self._known_lines, self.peer_address
        )
        return self._transport


def under_sudo() -> bool:
    """Whether sudo(8) started this program as root."""
    return os.geteuid() == 0 and "SUDO_USER" in os.environ
