"""The IP address of the ssh server, which ssh prints at the login."""

from __future__ import annotations

import re

import trio

__all__ = ["PeerAddress", "login_address"]


class PeerAddress:
    """The IP address at the last login.

    Attributes:
        address: None before the first login, and if ssh does not show it: behind a jump host or a
            ProxyCommand.
    """

    def __init__(self) -> None:
        self.address: str | None = None
        self._login = trio.Event()

    def on_login(self, line: str) -> None:
        """Take note of the line that ssh prints at the login."""
        self.address = login_address(line) or self.address
        self._login.set()
        self._login = trio.Event()

    async def next_login(self) -> None:
        """Wait for the next login."""
        await self._login.wait()


def login_address(line: str) -> str | None:
    """Return the IP address in the line that ssh prints at the login; None if it has none."""
    found = re.search(r"\(\[([0-9A-Fa-f.:]+)\]:\d+\)", line)
    return found[1] if found else None
