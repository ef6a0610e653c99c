"""Ask ssh for its configuration for a host, with `ssh -G`."""

from __future__ import annotations

import logging
import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from vknet.transport.ssh_config import (
    SshConfig,
    parse_configuration,
    probe_config,
    takes_probe,
)
from vknet.transport.ssh_lines import PROMPT_POLL_S, Terminal
from vknet.transport.ssh_process import LogPipe, as_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.abc import ReceiveStream

    from vknet.transport.ssh_command import SshSettings

__all__ = ["read_configuration"]

log = logging.getLogger(__name__)

# `ssh -G` answers in 10 ms, unless the configuration of the user runs slow commands (Match exec).
CONFIGURATION_TIMEOUT_S: Final = 30.0

# The time that a killed process may take to end.
KILL_WAIT_S: Final = 1.0


async def read_configuration(settings: SshSettings) -> tuple[SshConfig, bool]:
    """Return the configuration of ssh for the host, and whether ssh can open a `LogPipe`.

    The configuration is empty if this ssh is not OpenSSH, cannot be run, or does not answer in
    time.  The time does not run while sudo, for example, asks for a password.
    """
    if not takes_probe(settings.command):
        return SshConfig({}), False
    query = ["-T", "-G", *settings.options, "--", settings.target.login]
    words = (*settings.command, *settings.options)
    outputs = {"logged": "", "plain": "", "probed": ""}
    with_probe = _file_with(probe_config(words))
    try:
        with closing(Terminal()) as terminal, trio.move_on_after(CONFIGURATION_TIMEOUT_S) as scope:
            may_ask = Path(settings.command[0]).name != "ssh"

            def extend() -> None:
                if may_ask and terminal.is_asking():
                    scope.deadline = trio.current_time() + CONFIGURATION_TIMEOUT_S

            async def ask(name: str, stdin: int, *options: str) -> None:
                outputs[name] = await _output([*settings.command, *options], stdin, extend)

            # One after the other: sudo may ask for a password.
            with LogPipe() as log_pipe:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_drain, log_pipe.stream)
                    await ask("logged", subprocess.DEVNULL, "-E", log_pipe.path, *query)
                    nursery.cancel_scope.cancel()
            if not outputs["logged"]:
                await ask("plain", subprocess.DEVNULL, *query)
            probing = (*settings.options, "-F", "/dev/stdin", "-T", "-G", *query[-2:])
            await ask("probed", with_probe, *probing)
    finally:
        os.close(with_probe)
    config = parse_configuration(outputs["logged"] or outputs["plain"], outputs["probed"])
    return config, bool(outputs["logged"] and config.options)


def _file_with(text: str) -> int:
    """Return the descriptor of a file with this text; of an empty one if the kernel refuses."""
    try:
        fd = os.memfd_create("vknet", os.MFD_CLOEXEC)
    except OSError:
        # For example under seccomp, in a container.  The probe then shows nothing as unset.
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.write(fd, text.encode(errors="surrogateescape"))
    return fd


async def _drain(stream: ReceiveStream) -> None:
    """Read a stream and forget it: with LogLevel=DEBUG3, ssh may write more than a pipe holds."""
    while await stream.receive_some():
        pass


async def _output(argv: list[str], stdin: int, on_poll: Callable[[], None]) -> str:
    """Return what a command prints; nothing if it fails or cannot be run.

    Args:
        argv: the command.
        stdin: its input.
        on_poll: is called again and again while the command prints nothing.
    """
    try:
        process = await trio.lowlevel.open_process(
            as_child(argv), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return ""
    # open_process was asked for a pipe.
    assert process.stdout is not None
    printed = bytearray()
    try:
        async with process.stdout:
            while True:
                with trio.move_on_after(PROMPT_POLL_S) as scope:
                    data = await process.stdout.receive_some()
                    if not data:
                        break
                    printed += data
                if scope.cancelled_caught:
                    on_poll()
        status = await process.wait()
    finally:
        if process.returncode is None:
            await _kill(process)
    return "" if status else printed.decode(errors="replace")


async def _kill(process: trio.Process) -> None:
    """Kill and reap a process, if this user may."""
    try:
        process.kill()
    except PermissionError:
        # For example with -e "sudo ssh".
        log.error("no permission to end ssh; as root: kill %d", process.pid)
        return
    with trio.move_on_after(KILL_WAIT_S, shield=True):
        await process.wait()
