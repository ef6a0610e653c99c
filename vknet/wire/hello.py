"""HELLO: how each side introduces itself before anything else.  Pure.

A HELLO is a UTF-8 JSON object of at most `HELLO_LIMIT` bytes (docs/protocol.md).  Unknown keys are
ignored, so that later versions can add some.  Known keys are checked one by one, because the peer
is a stranger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from vknet.errors import RemoteProtocolError, escaped
from vknet.packet.ethernet import MTU_MAX, MTU_MIN, format_mac, parse_mac
from vknet.packet.virtio import NO_OFFLOADS, Offload

__all__ = [
    "HELLO_LIMIT",
    "MTU_MAX",
    "MTU_MIN",
    "TIMEOUT_MAX_S",
    "TIMEOUT_MIN_S",
    "WINDOW_MAX",
    "Hello",
]

HELLO_LIMIT: Final = 4096
WIRE_VERSION: Final = 2

# In less than a second a dead peer cannot be told from a busy one.
TIMEOUT_MIN_S: Final = 1.0
TIMEOUT_MAX_S: Final = 86400.0

# The largest window in bytes: more than any path holds, and more than ssh buffers.
WINDOW_MAX: Final = 2**30
AUTO: Final = "auto"

# The longest name in characters.  JSON may spend 12 bytes on each, and a HELLO still fits its
# limit.
NAME_LIMIT: Final = 100

# The number of MAC addresses that a HELLO can tell.
MACS_LIMIT: Final = 16


@dataclass(frozen=True, slots=True)
class Hello:
    """One side's introduction.

    Attributes:
        program: name and version of the program, for people.
        endpoint: the name of the endpoint, for people.
        frame_limit: the longest frame that this side takes, in bytes.
        mtu: the MTU of the endpoint in bytes; None if it has none (a socket).
        mtu_fixed: the user set the MTU, or vknet may not change it.
        timeout: seconds of silence after which this side declares the other one dead.
        wire: the highest version of the wire that this side speaks.
        offloads: what may be left undone in the frames that are sent to this side.
        window: bytes that may be in flight to a peer that acknowledges them.  None estimates them,
            and 0 is no limit; with 0 this side sends no ACKs either.
        ack_time: this side accepts ACKs with a time stamp.
        macs: the MAC addresses of this side's own interfaces on the network.
    """

    program: str
    endpoint: str
    frame_limit: int
    mtu: int | None
    mtu_fixed: bool
    timeout: float
    wire: int = WIRE_VERSION
    offloads: Offload = NO_OFFLOADS
    window: int | None = 0
    ack_time: bool = False
    macs: frozenset[bytes] = frozenset()

    def to_json(self) -> bytes:
        """The payload of the HELLO block, at most `HELLO_LIMIT` bytes."""
        values: dict[str, Any] = {
            "wire": self.wire,
            "program": self.program[:NAME_LIMIT],
            "endpoint": self.endpoint[:NAME_LIMIT],
            "frame_limit": self.frame_limit,
            "mtu": self.mtu,
            "mtu_fixed": self.mtu_fixed,
            "timeout": self.timeout,
            "offloads": self.offloads.names,
            "window": AUTO if self.window is None else self.window,
            "ack_time": self.ack_time,
        }
        if self.macs:
            values["macs"] = [format_mac(mac) for mac in sorted(self.macs)[:MACS_LIMIT]]
        return json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> Hello:
        """Read a peer's HELLO.

        Raises:
            RemoteProtocolError: it is not a JSON object, or a key is missing or has a wrong value.
        """
        try:
            values = json.loads(payload.decode(), parse_constant=_not_a_number)
        except (ValueError, RecursionError) as exc:
            raise RemoteProtocolError(
                f"the peer's HELLO is not JSON: {escaped(payload, 60)}"
            ) from exc
        if not isinstance(values, dict):
            raise RemoteProtocolError("the peer's HELLO is not a JSON object")
        mtu = values.get("mtu")
        return cls(
            program=escaped(_text(values, "program")),
            endpoint=escaped(_text(values, "endpoint")),
            frame_limit=int(_number(values, "frame_limit", 1, 2**31)),
            mtu=None if mtu is None else int(_number(values, "mtu", MTU_MIN, MTU_MAX)),
            mtu_fixed=values.get("mtu_fixed") is True,
            timeout=_number(values, "timeout", TIMEOUT_MIN_S, TIMEOUT_MAX_S),
            wire=int(_number(values, "wire", WIRE_VERSION, 2**31)),
            offloads=_offloads(values.get("offloads")),
            window=_window(values),
            ack_time=values.get("ack_time") is True,
            macs=_macs(values.get("macs")),
        )


def _not_a_number(constant: str) -> NoReturn:
    raise ValueError(constant)


def _offloads(value: Any) -> Offload:
    """Read a list of names; later versions will add names, so unknown ones are ignored."""
    if value is None:
        return NO_OFFLOADS
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RemoteProtocolError("the peer's HELLO has no list of strings for 'offloads'")
    return Offload.from_names(value)


def _macs(value: Any) -> frozenset[bytes]:
    if value is None:
        return frozenset()
    try:
        return frozenset(map(parse_mac, value))
    except (TypeError, ValueError) as exc:
        raise RemoteProtocolError(
            "the peer's HELLO has no list of MAC addresses for 'macs'"
        ) from exc


def _window(values: dict[str, Any]) -> int | None:
    if "window" not in values:
        return 0
    return None if values["window"] == AUTO else int(_number(values, "window", 0, WINDOW_MAX))


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise RemoteProtocolError(f"the peer's HELLO has no string for {key!r}")
    return value


def _number(values: dict[str, Any], key: str, low: float, high: float) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RemoteProtocolError(
            f"the peer's HELLO has no number from {low} to {high} for {key!r}"
        )
    return value
