"""The exit statuses of all commands.  Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["EXIT_FAILED", "EXIT_STOPPED", "EXIT_USAGE"]

EXIT_STOPPED: Final = 0
"""Stopped by a signal, or done."""

EXIT_FAILED: Final = 1
"""The link was lost or never came up, or something else failed."""

EXIT_USAGE: Final = 2
"""The arguments are wrong; nothing was started."""
