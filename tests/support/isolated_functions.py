"""Functions that tests call in a child process of `vknet.endpoints.isolated`."""

from __future__ import annotations

import os

from vknet.endpoints.isolated import isolated
from vknet.errors import SetupError

__all__ = ["pid_of_callee"]


@isolated
def pid_of_callee(*, fail: bool = False) -> int:
    """Return the pid of the child; with `fail`, raise a SetupError."""
    if fail:
        raise SetupError("the reason")
    return os.getpid()
