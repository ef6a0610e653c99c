"""Writing to stdout: what a command was asked to print, such as the help or a status."""

from __future__ import annotations

import io
import sys

from vknet.errors import SetupError

__all__ = ["write_stdout"]


def write_stdout(text: str) -> None:
    """Write a text to stdout, and flush it; escape what its encoding cannot represent.

    A reader such as head(1) may close the pipe early, which is not an error.  Neither is a stdout
    that is closed.

    Raises:
        SetupError: it cannot be written, for example because the disk is full.
    """
    stdout = sys.stdout
    if stdout is None:
        return
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="backslashreplace")
    try:
        stdout.write(text)
        stdout.flush()
    except OSError as exc:
        # Otherwise Python tries to write the rest at exit, and reports that.
        sys.stdout = None
        if not isinstance(exc, BrokenPipeError):
            raise SetupError(f"cannot write to stdout: {exc.strerror}") from exc
