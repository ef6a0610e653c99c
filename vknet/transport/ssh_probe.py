"""Ask ssh for its configuration for a host, with `ssh -G`."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Final

import trio

from vknet.transport.ssh_config import (
    SshConfig,
    parse_configuration,
    probe_config,
    takes_probe,
)
from vknet.transport.ssh_process import LogPipe, as_child

if TYPE_CHECKING:
    from vknet.transport.ssh_command import SshSettings

__all__ = ["read_configuration"]

# `ssh -G` answers in 10 ms, unless the configuration of the user runs slow commands (Match exec).
CONFIGURATION_TIMEOUT_S: Final = 30.0


async def read_configuration(settings: SshSettings) -> tuple[SshConfig, bool]:
    """Return the configuration of ssh for the host, and whether ssh can open a `LogPipe`.

    The configuration is empty if this ssh is not OpenSSH, cannot be run, or does not answer in
    time.
    """
    if not takes_probe(settings.command):
        return SshConfig({}), False
    query = ["-T", "-G", *settings.options, "--", settings.target.login]
    words = (*settings.command, *settings.options)
    outputs = {"logged": "", "plain": "", "probed": ""}
    with_probe = os.memfd_create("vknet", os.MFD_CLOEXEC)
    try:
        os.write(with_probe, probe_config(words).encode(errors="surrogateescape"))

        async def ask(name: str, stdin: int, *options: str) -> None:
            outputs[name] = await _output([*settings.command, *options], stdin)

        with trio.move_on_after(CONFIGURATION_TIMEOUT_S):
            # One after the other: sudo may ask for a password.
            with LogPipe() as log_pipe:
                await ask("logged", subprocess.DEVNULL, "-E", log_pipe.path, *query)
            if not outputs["logged"]:
                await ask("plain", subprocess.DEVNULL, *query)
            probing = (*settings.options, "-F", "/dev/stdin", "-T", "-G", *query[-2:])
            await ask("probed", with_probe, *probing)
    finally:
        os.close(with_probe)
    config = parse_configuration(outputs["logged"] or outputs["plain"], outputs["probed"])
    return config, bool(outputs["logged"] and config.options)


async def _output(argv: list[str], stdin: int) -> str:
    """Return what a command prints; nothing if it fails or cannot be run."""
    try:
        completed = await trio.run_process(
            as_child(argv),
            stdin=stdin,
            capture_stdout=True,
            stderr=subprocess.DEVNULL,
            check=False,
            deliver_cancel=_kill,
        )
    except OSError:
        return ""
    return "" if completed.returncode else completed.stdout.decode(errors="replace")


async def _kill(process: trio.Process) -> None:
    process.kill()
