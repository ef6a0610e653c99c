"""A switch of the tests' own for socket endpoints; it has one port, and can misbehave.

It listens on a SOCK_SEQPACKET socket of a host by way of the file system, which the hosts share
with the tests; network namespaces do not separate path names.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["OneClientSwitch"]


class OneClientSwitch:
    """A listening socket, and the client it accepted last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._client: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.settimeout(30)
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
        """The next client; its calls give up after half a minute."""
        self.hang_up()
        self._client, _ = self._listener.accept()
        self._client.settimeout(30)
        return self._client

    def hang_up(self) -> None:
        """Close the connection to the client, as a switch that ends does."""
        if self._client is not None:
            self._client.close()
            self._client = None
