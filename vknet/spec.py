"""The user's grammar: what stands for an endpoint, a host, a retry.  Pure.

    local-spec     auto | tapN | /dev/tapN | tap:NAME | a path with a slash in it
    target         [user@]host[:remote-spec]     an IPv6 address in brackets
    retry          delay[:retries]

Hosts and users reach ssh's command line, specs and bridges the remote shell's; what each may hold
is checked here, against a list of what is known to be harmless, and nowhere else.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from vknet.errors import UsageError, escaped

__all__ = [
    "DEFAULT_SOCKET",
    "SOCKET_PATH_LIMIT",
    "RetryPolicy",
    "SocketSpec",
    "Spec",
    "TapSpec",
    "Target",
    "parse_bridge",
    "parse_retry",
    "parse_spec",
    "parse_target",
]

DEFAULT_SOCKET: Final = "/var/run/vknet"

# sizeof(sun_path) of unix(7), less the final NUL.
SOCKET_PATH_LIMIT: Final = 107

# IFNAMSIZ less the final NUL.
INTERFACE_LIMIT: Final = 15

_TAP = re.compile(r"(?:/dev/)?(tap[0-9]+)", re.ASCII)
_INTERFACE = re.compile(r"[A-Za-z0-9_.+@-]+", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+@-]*\$?", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*", re.ASCII)
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?", re.ASCII)
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class SocketSpec:
    """The SOCK_SEQPACKET socket of a vknetd switch."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class TapSpec:
    """A TAP interface; `name` None is the first unused one."""

    name: str | None

    def __str__(self) -> str:
        return "auto" if self.name is None else f"tap:{self.name}"


Spec: TypeAlias = SocketSpec | TapSpec


@dataclass(frozen=True, slots=True)
class Target:
    """A host to reach, and the endpoint on it as the user wrote it."""

    user: str | None
    host: str
    spec: str = DEFAULT_SOCKET

    @property
    def login(self) -> str:
        """``user@host`` as ssh takes it."""
        return self.host if self.user is None else f"{self.user}@{self.host}"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again.

    Attributes:
        delay: seconds between the loss and the next attempt.
        retries: how many retries in a row may fail; None for no limit.
    """

    delay: float
    retries: int | None = None

    def __post_init__(self) -> None:
        if not self.delay >= 0 or (self.retries is not None and self.retries < 0):
            raise UsageError(f"a delay and a number of retries are not below 0: {self}")


def parse_spec(text: str, what: str = "local-spec") -> Spec:
    """Read a local-spec or remote-spec; `what` says which, in errors.

    Raises:
        UsageError: it is neither a TAP nor a path.
    """
    shown = escaped(text)
    if not text:
        default = "" if what == "local-spec" else f"; without its colon it is {DEFAULT_SOCKET}"
        raise UsageError(
            f"the {what} is empty; it is neither auto, tapN, tap:NAME nor a path{default}"
        )
    if _CONTROL.search(text):
        raise UsageError(f'{what} "{shown}": control characters are not allowed')
    if text == "auto":
        return TapSpec(None)
    if match := _TAP.fullmatch(text):
        return TapSpec(_interface(match[1], "TAP"))
    if text.startswith("tap:"):
        return TapSpec(_interface(text.removeprefix("tap:"), "TAP"))
    if text.startswith("-"):
        raise UsageError(f'{what} "{shown}": for a path that begins with "-", write ./{shown}')
    if text.startswith("//"):
        raise UsageError(f'{what} "{shown}": a host is written without ssh:// before it')
    if "/" in text:
        if len(os.fsencode(text)) > SOCKET_PATH_LIMIT:
            raise UsageError(
                f"{what} {shown}: the path of a socket has at most {SOCKET_PATH_LIMIT} bytes"
            )
        return SocketSpec(text)
    option = "-b BRIDGE" if what == "local-spec" else "-B BRIDGE"
    raise UsageError(
        f'{what} "{shown}" is neither auto, tapN, tap:NAME nor a path'
        f" (for a socket in the working directory write ./{shown}; a bridge is joined by {option}"
        " and auto for the spec)"
    )


def parse_bridge(text: str, spec: Spec, side: str) -> str:
    """Read the name of a bridge that the TAP of `spec` joins on the local or remote `side`.

    Raises:
        UsageError: not a name, or the spec is a socket.
    """
    if isinstance(spec, SocketSpec):
        raise UsageError(
            f"bridge {escaped(text)}: the {side} spec {escaped(spec.path)} is a socket, and"
            " only a TAP can be in a bridge; vknetd has its own TAP for that"
        )
    return _interface(text, "bridge")


def parse_target(text: str) -> Target:
    """Read ``[user@]host[:remote-spec]``.

    Raises:
        UsageError: no host, or something that may not stand in one.
    """
    match = re.fullmatch(r"(?:([^:\[]*)@)?(?:\[([^\]]*)\]|([^:@\[\]]*))(?::(.*))?", text, re.DOTALL)
    if match is None:
        raise UsageError(
            f'"{escaped(text)}" is no [user@]host[:remote-spec]; IPv6 goes in brackets'
        )
    user, address, name, spec = match.groups()
    host = name if address is None else address
    if spec is not None and address is None and re.fullmatch("[0-9A-Fa-f]*", host) and ":" in spec:
        raise UsageError(f'"{escaped(text)}": IPv6 goes in brackets')
    if not host:
        raise UsageError(f'"{escaped(text)}": the host is missing')
    if user is not None and not _USER.fullmatch(user):
        raise UsageError(f'user "{escaped(user)}": letters, digits and . _ + - @ are allowed')
    if not (_HOST if address is None else _IPV6).fullmatch(host):
        what = "in brackets IPv6 alone is"
        if address is None:
            what = "letters, digits and . _ -, but no - at the beginning, are"
        raise UsageError(f'host "{escaped(host)}": {what} what may stand there')
    if spec is None:
        return Target(user, host)
    parse_spec(spec, "remote-spec")
    return Target(user, host, spec)


def parse_retry(text: str) -> RetryPolicy:
    """Read ``delay[:retries]``: seconds, a decimal is fine, and a count.

    Raises:
        UsageError: not of that form.
    """
    delay, colon, retries = text.partition(":")
    if not _DECIMAL.fullmatch(delay) or (colon and not re.fullmatch("[0-9]{1,9}", retries)):
        raise UsageError(f'-r "{escaped(text)}" is no delay[:retries], such as 5 or 0.5:10')
    seconds = float(delay)
    if seconds > 86400 * 365:
        raise UsageError(f"-r {escaped(delay)}: a delay of more than a year")
    return RetryPolicy(seconds, int(retries) if colon else None)


def _interface(name: str, what: str) -> str:
    if name in ("", ".", "..") or len(name) > INTERFACE_LIMIT or name.startswith("-"):
        raise UsageError(
            f'{what} "{escaped(name)}": an interface name has 1 to {INTERFACE_LIMIT} characters,'
            ' does not begin with "-", and is neither . nor ..'
        )
    if not _INTERFACE.fullmatch(name):
        raise UsageError(f'{what} "{escaped(name)}": letters, digits and . _ + - @ are allowed')
    return name
