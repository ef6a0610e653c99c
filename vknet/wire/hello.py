"""HELLO: what each side tells the other before anything else, and what follows from the two.

Pure.  A HELLO is a UTF-8 JSON object of at most `HELLO_LIMIT` bytes (docs/protocol.md).  Unknown
keys are ignored, so that later versions can say more; known keys are checked one by one, because
the peer is a stranger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from vknet.errors import RemoteProtocolError, escaped
from vknet.packet.virtio import OFFLOADS

__all__ = [
    "HELLO_LIMIT",
    "MTU_MAX",
    "MTU_MIN",
    "TIMEOUT_MAX",
    "TIMEOUT_MIN",
    "WINDOW_MAX",
    "Hello",
    "agree_mtu",
    "agree_window",
]

HELLO_LIMIT: Final = 4096
WIRE_VERSION: Final = 2

# What Linux takes for a TAP: ETH_MIN_MTU, and 65535 less the Ethernet header (drivers/net/tun.c).
MTU_MIN: Final = 68
MTU_MAX: Final = 65521

# A dead peer cannot be told from a busy one in less than a second, and a day is for ever.
TIMEOUT_MIN: Final = 1.0
TIMEOUT_MAX: Final = 86400.0

# Of a window in bytes: more than any path holds, and than ssh takes in.
WINDOW_MAX: Final = 2**30
AUTO: Final = "auto"

# Even if every character takes two \uXXXX in JSON, a HELLO stays under its limit.
NAME_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class Hello:
    """One side's introduction.

    Attributes:
        program: name and version, for people.
        endpoint: the name of the endpoint, for people.
        frame_limit: the longest frame this side takes, in bytes.
        mtu: the MTU of the endpoint in bytes; None where it has none of its own (a socket).
        mtu_fixed: the MTU was asked for by a person, or is not vknet's to change.
        timeout: seconds of silence after which this side takes the other for dead.
        wire: the highest version of the wire this side speaks.
        offloads: what may be left undone in the frames that are sent to this side, by the names of
            `vknet.packet.virtio`.
        window: how many bytes may be under way to a peer that acknowledges them: None to find out,
            0 for no bound; then this side sends no ACKs either.
        ack_time: this side takes ACKs that say when they were written.
    """

    program: str
    endpoint: str
    frame_limit: int
    mtu: int | None
    mtu_fixed: bool
    timeout: float
    wire: int = WIRE_VERSION
    offloads: frozenset[str] = frozenset()
    window: int | None = 0
    ack_time: bool = False

    def to_json(self) -> bytes:
        """The payload of the HELLO block, at most `HELLO_LIMIT` bytes."""
        return json.dumps(
            {
                "wire": self.wire,
                "program": self.program[:NAME_LIMIT],
                "endpoint": self.endpoint[:NAME_LIMIT],
                "frame_limit": self.frame_limit,
                "mtu": self.mtu,
                "mtu_fixed": self.mtu_fixed,
                "timeout": self.timeout,
                "offloads": [name for name in OFFLOADS if name in self.offloads],
                "window": AUTO if self.window is None else self.window,
                "ack_time": self.ack_time,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> Hello:
        """Read a peer's HELLO.

        Raises:
            RemoteProtocolError: not a JSON object, or a key is missing or makes no sense.
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
            timeout=_number(values, "timeout", TIMEOUT_MIN, TIMEOUT_MAX),
            wire=int(_number(values, "wire", WIRE_VERSION, 2**31)),
            offloads=_offloads(values.get("offloads")),
            window=_window(values),
            ack_time=values.get("ack_time") is True,
        )


def agree_mtu(ours: Hello, theirs: Hello) -> int | None:
    """The MTU both ends should have: the lower one, of those that somebody fixed if any is fixed.

    A TAP that vknet made for itself follows the other side; one whose MTU a person chose does not.
    None where neither side has an MTU.
    """
    fixed = [h.mtu for h in (ours, theirs) if h.mtu is not None and h.mtu_fixed]
    free = [h.mtu for h in (ours, theirs) if h.mtu is not None]
    return min(fixed or free, default=None)


def agree_window(ours: Hello, theirs: Hello) -> int | None:
    """The window of this side, as in `Hello`: none if either wants none; or else its number.

    A side that would find out takes the other's number, if that has one.
    """
    if 0 in (ours.window, theirs.window):
        return 0
    return theirs.window if ours.window is None else ours.window


def _not_a_number(constant: str) -> NoReturn:
    raise ValueError(constant)


def _offloads(value: Any) -> frozenset[str]:
    """The names of a list that are known; later ones will be added to them."""
    if value is None:
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RemoteProtocolError("the peer's HELLO has no list of texts for 'offloads'")
    return frozenset(value).intersection(OFFLOADS)


def _window(values: dict[str, Any]) -> int | None:
    if "window" not in values:
        return 0
    return None if values["window"] == AUTO else int(_number(values, "window", 0, WINDOW_MAX))


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise RemoteProtocolError(f"the peer's HELLO has no text for {key!r}")
    return value


def _number(values: dict[str, Any], key: str, low: float, high: float) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RemoteProtocolError(
            f"the peer's HELLO has no number from {low} to {high} for {key!r}"
        )
    return value
