"""The errors that vknet raises.  Pure.

Each message is one line that says what failed, where, and what to do; the commands print it
unchanged.  Misuse of a resource by the program, such as two tasks on one stream or the use of a
closed endpoint, raises trio's own exceptions.
"""

from __future__ import annotations

__all__ = [
    "EndpointGone",
    "LocalProtocolError",
    "PeerGone",
    "RemoteProtocolError",
    "SetupError",
    "UsageError",
    "VknetError",
    "escaped",
    "shortened",
]


class VknetError(Exception):
    """The base class of the errors that vknet raises.

    Attributes:
        refused: the other side refuses, or has no vknet.  A person has to change something there,
            so further attempts can be rare.
    """

    refused = False

    def __init__(self, message: str = "", *, refused: bool | None = None) -> None:
        super().__init__(message)
        if refused is not None:
            self.refused = refused


class UsageError(VknetError):
    """The arguments are not valid; nothing was started."""


class SetupError(VknetError):
    """An endpoint, a bridge or ssh could not be set up."""


class EndpointGone(VknetError):
    """The local endpoint no longer exists: its TAP was deleted, or its vknetd ended."""


class PeerGone(VknetError):
    """The peer is gone: it ended the link, its stream ended, or it fell silent."""


class RemoteProtocolError(VknetError):
    """The peer sent data that the protocol does not allow; the link ends."""

    refused = True


class LocalProtocolError(VknetError):
    """This program tried to send data that the protocol does not allow."""


def shortened(text: str, limit: int) -> str:
    """Return the text, cut to at most `limit` characters; a text that was cut ends in ``...``."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def escaped(text: str | bytes, limit: int = 200) -> str:
    r"""Make untrusted text safe for a terminal and a log line.

    Args:
        text: bytes are decoded as UTF-8; a byte that is not UTF-8 becomes ``\xNN``.
        limit: the number of characters that are kept; a longer text ends in ``...``.

    Returns:
        One line, in which every control or unprintable character is a backslash escape.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    if len(text) > limit:
        text = text[:limit] + "..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
