"""The switch side of a socket endpoint, with one port and in the hands of a test.

Its SOCK_SEQPACKET socket has a path.  The hosts of a test bed share the file system with the test,
so they can connect to it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["OneClientSwitch"]

# The time for any call on its sockets.
TIMEOUT_S: Final = 30


class OneClientSwitch:
    """A listening socket and the client that it has accepted last.

    Args:
        path: that of the socket.  A file there is removed first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._client: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.settimeout(TIMEOUT_S)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen()
        path.chmod(0o666)

    def __enter__(self) -> OneClientSwitch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hang_up()
        self._listener.close()

    def accept(self) -> socket.socket:
        """Accept the next client.  The previous one is disconnected.

        Returns:
            Its socket, which this object owns.
        """
        self.hang_up()
        self._client, _ = self._listener.accept()
        self._client.settimeout(TIMEOUT_S)
        return self._client

    def hang_up(self) -> None:
        """Disconnect the client, if there is one."""
        if self._client is not None:
            self._client.close()
            self._client = None
