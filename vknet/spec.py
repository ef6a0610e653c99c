"""The grammar of the command line: endpoints, hosts, bridges, retries.  Pure.

    local-spec     auto | tapN | /dev/tapN | tap:NAME | a path that contains a slash
    target         [user@]host[:remote-spec]     an IPv6 address in brackets
    path           a leading ~ or ~user is a home directory, on the side of the spec
    retry          delay[:retries]

Hosts and users become arguments of ssh, and specs and bridges arguments of the remote shell.  This
module alone checks them, against lists of the characters that are allowed.
"""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from vknet.errors import UsageError, escaped

__all__ = [
    "ALTERNATIVE_LIMIT",
    "DEFAULT_SOCKET",
    "INTERFACE_LIMIT",
    "SOCKET_PATH_LIMIT",
    "RetryPolicy",
    "SocketSpec",
    "Spec",
    "TapSpec",
    "Target",
    "bridge_example",
    "parse_bridge",
    "parse_retry",
    "parse_spec",
    "parse_target",
]

DEFAULT_SOCKET: Final = "/var/run/vknet"

SOCKET_PATH_LIMIT: Final = 107
"""The maximum length of a socket's path in bytes: sun_path of unix(7) without the final NUL."""

INTERFACE_LIMIT: Final = 15
"""The maximum length of an interface's name in bytes: IFNAMSIZ without the final NUL."""

ALTERNATIVE_LIMIT: Final = 127
"""The maximum length of an alternative name in bytes: ALTIFNAMSIZ without the final NUL."""

DELAY_MAX_S: Final = 365 * 86400

_TAP = re.compile(r"(?:/dev/)?(tap[0-9]+)", re.ASCII)
_INTERFACE = re.compile(r"[A-Za-z0-9_.+@-]+", re.ASCII)
# ssh puts users and hosts into the commands of the user's configuration, such as ProxyCommand, and
# into paths.  No character here has a meaning for a shell, within a word or at the start of one.
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+@%/-]*\$?", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+%/-]*", re.ASCII)
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?", re.ASCII)
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)
# Control characters, and the surrogates that stand for no byte (PEP 383).
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff]")


@dataclass(frozen=True, slots=True)
class SocketSpec:
    """The SOCK_SEQPACKET socket of a vknetd switch."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class TapSpec:
    """A TAP interface.

    Attributes:
        name: its name; None means the first unused one.
        device: the path that the user wrote instead, such as ``/dev/tap0``.
    """

    name: str | None
    device: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return "auto" if self.name is None else f"tap:{self.name}"


Spec: TypeAlias = SocketSpec | TapSpec


@dataclass(frozen=True, slots=True)
class Target:
    """A host, and the endpoint on it as the user wrote it."""

    user: str | None
    host: str
    spec: str = DEFAULT_SOCKET

    @property
    def login(self) -> str:
        """``[user@]host``, as an argument of ssh: an IPv6 address has no brackets."""
        return self.host if self.user is None else f"{self.user}@{self.host}"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again.

    Attributes:
        delay: seconds from the loss of a link to the next attempt; it grows with each failure.
        retries: the number of retries that may fail in a row; None is no limit.

    Raises:
        UsageError: one of them is negative.
    """

    delay: float
    retries: int | None = None

    def __post_init__(self) -> None:
        if not self.delay >= 0 or (self.retries is not None and self.retries < 0):
            raise UsageError(f"the delay and the retries must not be negative: {self}")


def parse_spec(text: str, what: str = "local-spec", example: str | None = None) -> Spec:
    """Read a local-spec or a remote-spec.

    Args:
        text: the spec.
        what: ``local-spec`` or ``remote-spec``, for errors.
        example: the command line for a user who wrote the name of a bridge, for errors.

    Raises:
        UsageError: it is neither a TAP nor a path.
    """
    shown = escaped(text)
    if not text:
        default = "" if what == "local-spec" else f"; without the colon it is {DEFAULT_SOCKET}"
        raise UsageError(f"the {what} is empty; give auto, tapN, tap:NAME or a path{default}")
    if _FORBIDDEN.search(text):
        raise UsageError(
            f'{what} "{shown}": control characters and lone surrogates are not allowed'
        )
    if text == "auto":
        return TapSpec(None)
    if match := _TAP.fullmatch(text):
        device = text if text.startswith("/dev/") else None
        return TapSpec(_interface(match[1], "TAP"), device)
    if text.startswith("tap:"):
        return TapSpec(_interface(text.removeprefix("tap:"), "TAP"))
    if text.startswith("-"):
        raise UsageError(f'{what} "{shown}": for a path that begins with "-", write ./{shown}')
    if text.startswith("//"):
        raise UsageError(f'{what} "{shown}": write the host without ssh://')
    if "/" in text:
        if len(os.fsencode(text)) > SOCKET_PATH_LIMIT:
            raise UsageError(
                f"{what} {shown}: the path of a socket has at most {SOCKET_PATH_LIMIT} bytes;"
                " shorten it"
            )
        return SocketSpec(text)
    raise UsageError(
        f'{what} "{shown}" is neither auto, tapN, tap:NAME nor a path;'
        f"{_bridge_hint(text, example)}"
        f" for a socket in the working directory write ./{shown}"
    )


def bridge_example(spec: str, target: str) -> str | None:
    """Return the command line for a user who wrote bridges as specs; None if none can be meant.

    Args:
        spec: what the user wrote as the local-spec.
        target: and as the target.
    """
    match = re.fullmatch(r"((?:[^:\[]*@)?(?:\[[^\]]*\]|[^:@\[\]]*))(?::(.*))?", target, re.DOTALL)
    if match is None:
        return None
    # Without a remote-spec, the bridge there probably has the same name.
    login, remote = match[1], spec if match[2] is None else match[2]
    options, specs = [], []
    try:
        parse_target(f"{login}:auto")
    except UsageError:
        return None
    for option, text in (("-b", spec), ("-B", remote)):
        try:
            parse_spec(text)
            specs.append(shlex.quote(text))
        except UsageError:
            if not _can_be_interface(text):
                return None
            options.append(f"{option} {text}")
            specs.append("auto")
    return f"vknet {' '.join(options)} {specs[0]} {login}:{specs[1]}" if options else None


def _bridge_hint(name: str, example: str | None) -> str:
    """Show how to join the bridge of this name, if it can be the name of one."""
    if not _can_be_interface(name):
        return ""
    return f" for a bridge: {example or f'vknet -b {name} -B {name} auto HOST:auto'};"


def _can_be_interface(name: str) -> bool:
    try:
        _interface(name, "bridge")
    except UsageError:
        return False
    return True


def parse_bridge(text: str, spec: Spec, side: str) -> str:
    """Read the name of a bridge.

    Args:
        text: the name.
        spec: the endpoint that joins it.
        side: ``local`` or ``remote``, for errors.

    Raises:
        UsageError: it is not the name of an interface, or the spec is a socket.
    """
    if isinstance(spec, SocketSpec):
        advice = "to bridge a switch, use vknetd's own option -b"
        if side == "remote" and spec.path == DEFAULT_SOCKET:
            advice = f"HOST alone means HOST:{spec.path}; for a TAP write HOST:auto"
        raise UsageError(
            f"bridge {escaped(text)}: the {side} spec {escaped(spec.path)} is a socket, and"
            f" only a TAP can be in a bridge; {advice}"
        )
    return _interface(text, "bridge")


def parse_target(text: str, example: str | None = None) -> Target:
    """Read ``[user@]host[:remote-spec]``.

    Args:
        text: the target.
        example: as for `parse_spec`.

    Raises:
        UsageError: a part is missing, or has characters that are not allowed.
    """
    match = re.fullmatch(r"(?:([^:\[]*)@)?(?:\[([^\]]*)\]|([^:@\[\]]*))(?::(.*))?", text, re.DOTALL)
    if match is None:
        raise UsageError(f'"{escaped(text)}" is not [user@]host[:remote-spec]; {_bracketed(text)}')
    user, address, name, spec = match.groups()
    host = name if address is None else address
    if spec is not None and address is None and re.fullmatch("[0-9A-Fa-f]*", host) and ":" in spec:
        raise UsageError(f'"{escaped(text)}" is not [user@]host[:remote-spec]; {_bracketed(text)}')
    if not host:
        raise UsageError(f'"{escaped(text)}": the host is missing')
    if user is not None and not _is_name(user, _USER):
        raise UsageError(
            f'user "{escaped(user)}": letters, digits and . _ + - @ % / are allowed; {_NAME_RULES}'
        )
    if address is None and not _is_name(host, _HOST):
        raise UsageError(
            f'host "{escaped(host)}": letters, digits and . _ + - % / are allowed; {_NAME_RULES}'
        )
    if address is not None and not _IPV6.fullmatch(host):
        raise UsageError(f'host "[{escaped(host)}]": brackets are for IPv6 addresses only')
    if spec is None:
        return Target(user, host)
    parse_spec(spec, "remote-spec", example)
    return Target(user, host, spec)


_NAME_RULES: Final = (
    "the first is a letter, a digit, . or _, and no part between slashes is empty, . or .."
)


def _is_name(text: str, ascii_form: re.Pattern[str]) -> bool:
    """Whether the text is a user or a host: letters of any script count as those of ASCII.

    In a character set other than UTF-8, a letter may contain bytes that a shell takes for others.
    """
    as_ascii = ""
    for char in text:
        if not char.isascii():
            try:
                bytes_high = all(byte >= 0x80 for byte in os.fsencode(char))
            except UnicodeEncodeError:
                return False
            if not bytes_high or unicodedata.category(char)[0] not in "LMN":
                return False
        as_ascii += char if char.isascii() else "x"
    parts = text.split("/")
    return bool(ascii_form.fullmatch(as_ascii)) and not {"", ".", ".."} & set(parts)


def _bracketed(text: str) -> str:
    """Advise brackets, and show the target with them if its parts can be told apart."""
    user, at, rest = text.rpartition("@")
    advice = "write an IPv6 address in brackets"
    path_address, _, path = rest.partition(":/")
    address, _, name = rest.rpartition(":")
    for host, spec in (
        (rest.strip("[]"), "auto"),
        (path_address, f"/{path}"),
        (address, name or "auto"),
    ):
        if _is_ipv6(host) and (not at or _is_name(user, _USER)):
            return escaped(f"{advice}, as in {user}{at}[{host}]:{spec}")
    return advice


def _is_ipv6(text: str) -> bool:
    # Only errors need it, and it is slow to import.
    from ipaddress import IPv6Address

    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def parse_retry(text: str) -> RetryPolicy:
    """Read ``delay[:retries]``: seconds, decimals allowed, and a number.

    Raises:
        UsageError: it has another form.
    """
    delay, colon, retries = text.partition(":")
    if not _DECIMAL.fullmatch(delay) or (colon and not re.fullmatch("[0-9]{1,9}", retries)):
        raise UsageError(f'-r "{escaped(text)}" is not delay[:retries], such as 5 or 0.5:10')
    seconds = float(delay)
    if seconds > DELAY_MAX_S:
        raise UsageError(f"-r {escaped(delay)}: the delay is longer than a year (31536000 s)")
    return RetryPolicy(seconds, int(retries) if colon else None)


def _interface(name: str, what: str) -> str:
    # Whether an interface has a long name as its alternative name is known when it is opened.
    if name in ("", ".", "..") or len(name) > ALTERNATIVE_LIMIT or name.startswith("-"):
        raise UsageError(
            f'{what} "{escaped(name)}": an interface name has 1 to {INTERFACE_LIMIT} characters (an'
            f' alternative name up to {ALTERNATIVE_LIMIT}), does not begin with "-", and is neither'
            " . nor .."
        )
    if not _INTERFACE.fullmatch(name):
        raise UsageError(f'{what} "{escaped(name)}": letters, digits and . _ + - @ are allowed')
    return name
