"""The codec's public face: block formats, encoders, and the decoder (docs/protocol.md).

`encode_frames` and `encode_control` turn frames and control messages into bytes; a `Decoder` turns
bytes into frames and control messages.  Nothing here does any I/O.
"""

from __future__ import annotations

from vknet.packet.ethernet import Frame
from vknet.wire.blocks import (
    FRAME_LIMIT_V1,
    FRAME_LIMIT_V2,
    V1_MAGIC,
    Ack,
    Bye,
    Control,
    Ping,
    Pong,
    Wire,
)
from vknet.wire.decoder import Decoded, Decoder
from vknet.wire.encoder import Encoded, encode_control, encode_frames
from vknet.wire.hello import Hello

__all__ = [
    "FRAME_LIMIT_V1",
    "FRAME_LIMIT_V2",
    "V1_MAGIC",
    "Ack",
    "Bye",
    "Control",
    "Decoded",
    "Decoder",
    "Encoded",
    "Frame",
    "Hello",
    "Ping",
    "Pong",
    "Wire",
    "encode_control",
    "encode_frames",
]
