"""Block formats of both wires, and the control messages (docs/protocol.md).

A block is a header of eight bytes and a payload; all integers are little-endian.

    v1, a frame        u32 magic 0x5A69782B    u32 length    the frame
    v2, a control      u8 type, "VK2"          u32 length    a payload that depends on the type
        type OFFLOAD   a frame with its offload header (vknet.packet.virtio) before it
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

from vknet.packet.ethernet import LONGEST_FRAME
from vknet.wire.hello import Hello

__all__ = [
    "ACK",
    "BLOCK_HEADER",
    "BLOCK_HEADER_SIZE",
    "BYE",
    "BYE_LIMIT",
    "CONTROL_MARK",
    "FRAME_LIMIT_V1",
    "FRAME_LIMIT_V2",
    "HELLO",
    "NUMBERED",
    "OFFLOAD",
    "OFFLOAD_WORD",
    "PING",
    "PONG",
    "TIMED_ACK",
    "TYPE_MASK",
    "U64",
    "V1_MAGIC",
    "Ack",
    "Bye",
    "Control",
    "Ping",
    "Pong",
    "Wire",
]

V1_MAGIC: Final = 0x5A69782B
BLOCK_HEADER: Final = struct.Struct("<II")
BLOCK_HEADER_SIZE: Final = BLOCK_HEADER.size

FRAME_LIMIT_V1: Final = 8192 + 128
"""The longest frame in bytes that the program of 2008 takes (its MAXPKT); it closes on more."""

FRAME_LIMIT_V2: Final = LONGEST_FRAME

# The last three bytes of a control block's first word, above the type.
CONTROL_MARK: Final = int.from_bytes(b"\0VK2", "little")
TYPE_MASK: Final = 0xFF

HELLO: Final = 0x01
OFFLOAD: Final = 0x02
ACK: Final = 0x03
PING: Final = 0x04
PONG: Final = 0x05
BYE: Final = 0x06

OFFLOAD_WORD: Final = CONTROL_MARK | OFFLOAD

U64: Final = struct.Struct("<Q")
TIMED_ACK: Final = struct.Struct("<QI")

BYE_LIMIT: Final = 200
"""The longest reason of a BYE in characters, as it is sent and as it is shown."""


class Wire(enum.Enum):
    """Which wire a side speaks."""

    V1 = "v1"
    """Frames only, as in 2008, and at once: `-S` speaks it to a client that left no mark, and so
    does a client whose user knows that the peer is such a program."""
    AUTO = "auto"
    """The client's side: v2 if the first block is a HELLO, v1 for good otherwise.  Nothing is sent
    before that block."""
    V2 = "v2"
    """The peer is known to speak v2.  A HELLO has to come, though frames may come before it."""


@dataclass(frozen=True, slots=True)
class Ack:
    """Acknowledges frames that were delivered to the endpoint.

    Attributes:
        total: bytes of frames delivered so far.
        at: when the ACK was written, on the sender's clock, as
            `vknet.congestion.reverse_delay.stamp` returns it; None if the sender does not say.
    """

    total: int
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a PONG with the same token."""

    token: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a PING."""

    token: int


@dataclass(frozen=True, slots=True)
class Bye:
    """Ends the link; the reason is for the user."""

    reason: str


NUMBERED: Final[dict[int, type[Ack | Ping | Pong]]] = {ACK: Ack, PING: Ping, PONG: Pong}

Control: TypeAlias = Hello | Ack | Ping | Pong | Bye
