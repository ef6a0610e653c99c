"""Streams of the wire, built by hand and decoded; blocks as docs/protocol.md writes them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Final

from tests.support import blocks
from tests.support.blocks import Outcome, apart
from vknet.framing import (
    Ack,
    Bye,
    Control,
    Ping,
    Pong,
    Wire,
    encode_control,
)
from vknet.packet.virtio import ALL_OFFLOADS, NO_OFFLOADS, OffloadFrame
from vknet.wire.decoder import Decoder
from vknet.wire.hello import Hello

__all__ = [
    "FRAME",
    "GREETING",
    "HELLO_BLOCK",
    "MAGIC_BYTES",
    "Outcome",
    "control",
    "decoded",
    "frame_block",
    "header",
    "one_by_one",
    "plain",
    "replay",
]

GREETING: Final = Hello("vknet 2.0", "tap0", 65664, 1500, mtu_fixed=False, timeout=15.0)
HELLO_BLOCK: Final = encode_control(GREETING)
MAGIC_BYTES: Final = b"\x2b\x78\x69\x5a"
FRAME: Final = bytes(range(60))


def header(length: int, magic: bytes = MAGIC_BYTES) -> bytes:
    return magic + length.to_bytes(4, "little")


def control(kind: int, payload: bytes) -> bytes:
    return header(len(payload), bytes([kind]) + b"VK2") + payload


def frame_block(frame: bytes) -> bytes:
    return header(len(frame)) + frame


def plain(block: bytes | OffloadFrame | Control) -> Any:
    """Return a block as the document writes it."""
    match block:
        case Hello():
            keys = asdict(block)
            if not keys["ack_time"]:
                del keys["ack_time"]
            # The document leaves out keys with their default.
            if not keys["macs"]:
                del keys["macs"]
            if not keys.pop("offloads"):
                del keys["window"]
                return {"hello": keys}
            return {"hello": keys | {"offloads": sorted(block.offloads.names)}}
        case Ack(total, None):
            return {"ack": total}
        case Ack(total, at):
            return {"timed_ack": [total, at]}
        case Ping(token):
            return {"ping": token}
        case Pong(token):
            return {"pong": token}
        case Bye(reason):
            return {"bye": reason}
        case OffloadFrame():
            return {"offload": bytes(block.data).hex()}
        case bytes():
            return {"frame": block.hex()}


def replay(wire: Wire, chunks: list[bytes], *, end: bool = True, offload: bool = True) -> Outcome:
    """Decode a stream in these pieces; the blocks are as the document writes them."""
    decoder = Decoder(wire, offloads=ALL_OFFLOADS if offload else NO_OFFLOADS)
    outcome = blocks.replay(decoder, chunks, end=end)
    return replace(outcome, blocks=[plain(block) for block in outcome.blocks])


def decoded(wire: Wire, stream: bytes) -> list[Any]:
    """Decode a valid stream whole and byte by byte; return its blocks in their true order."""
    whole, in_order = replay(wire, [stream]), replay(wire, one_by_one(stream))
    assert whole.error is in_order.error is None
    assert whole.blocks == apart(in_order.blocks)
    return in_order.blocks


def one_by_one(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]
