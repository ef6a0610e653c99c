"""What can go wrong, told to the person who has to mend it.

Every message says what failed, where, and what to do about it, in one line: the command prints it
as it is.  Resource misuse inside a program (two tasks on one stream, a closed endpoint) keeps
trio's own exceptions.
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
]


class VknetError(Exception):
    """The root of every error vknet raises on purpose."""


class UsageError(VknetError):
    """What the user asked for has no meaning; nothing was started."""


class SetupError(VknetError):
    """An endpoint, a bridge or ssh could not be set up."""


class EndpointGone(VknetError):
    """The local endpoint no longer exists: its TAP was deleted, its vknetd went away."""


class PeerGone(VknetError):
    """The other side is no longer there: it said so, its stream ended, or it fell silent."""


class RemoteProtocolError(VknetError):
    """The peer sent something that the protocol does not allow; the link cannot go on."""


class LocalProtocolError(VknetError):
    """This side was asked to send something that the protocol does not allow."""


def escaped(text: str | bytes, limit: int = 200) -> str:
    r"""Make text from a stranger safe for a terminal and a log line.

    Args:
        text: bytes are read as UTF-8; what is not UTF-8 shows as ``\xNN``.
        limit: at most this many characters are kept; a longer text ends in ``...``.

    Returns:
        One line in which every control or unprintable character is a backslash escape.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    if len(text) > limit:
        text = text[:limit] + "..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
