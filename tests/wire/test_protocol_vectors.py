"""The vectors of docs/protocol.md, replayed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.blocks import apart
from tests.support.replaying import FRAME, HELLO_BLOCK, Outcome, frame_block, one_by_one, replay
from vknet.framing import (
    FRAME_LIMIT_V1,
    FRAME_LIMIT_V2,
    Ack,
    Bye,
    Ping,
    Pong,
    Wire,
    encode_control,
    encode_frames,
)
from vknet.packet.virtio import ALL_OFFLOADS, OffloadFrame, header_kinds

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "protocol.md"

VECTOR: Final = re.compile(
    r"^```vector (?P<name>\S+) (?P<kind>valid|error)\n(?P<hex>.*?)^```\n\s*"
    r"^```json\n(?P<json>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Vector:
    """A stream of the document and what comes out of it."""

    name: str
    kind: str
    wire: Wire
    stream: bytes
    expected: list[Any]
    error: str | None
    raised: str | None
    offload: bool


def read_vectors() -> list[Vector]:
    vectors = []
    for match in VECTOR.finditer(DOCUMENT.read_text()):
        outcome = json.loads(match["json"])
        stream = bytes.fromhex(re.sub(r"#.*", "", match["hex"]))
        vectors += [
            Vector(
                match["name"],
                match["kind"],
                Wire(wire),
                stream,
                outcome["blocks"],
                outcome.get("error"),
                outcome.get("raised"),
                outcome.get("offload", True),
            )
            for wire in outcome["wires"]
        ]
    return vectors


VECTORS: Final = read_vectors()
each_vector = pytest.mark.parametrize(
    "vector", [pytest.param(v, id=f"{v.name}-{v.wire.value}") for v in VECTORS]
)


def check(vector: Vector, outcome: Outcome, *, in_order: bool = False) -> None:
    """Compare an outcome with a vector; the order of all blocks, if it was replayed so finely."""
    if in_order:
        assert outcome.blocks == vector.expected
    assert apart(outcome.blocks) == apart(vector.expected)
    assert outcome.raised == vector.raised
    assert outcome.held == 0
    if vector.error is None:
        assert outcome.error is None
    else:
        assert outcome.error is not None
        assert vector.error in outcome.error


def test_every_vector_of_the_document_was_read() -> None:
    fences = re.findall(r"^```vector (\S+)", DOCUMENT.read_text(), re.MULTILINE)
    assert len(fences) == len(set(fences))
    assert {v.name for v in VECTORS} == set(fences)
    assert {
        *("single-frame", "two-frames", "zero-length", "length-8321", "bad-magic", "shell-noise"),
        *("hello", "ping", "pong", "bye", "unknown-skipped", "unknown-critical"),
        *("offload", "short-offload", "offload-not-agreed", "offload-before-hello"),
        *("ping-before-hello", "second-hello", "truncated-payload", "truncated-header"),
    } <= set(fences)


@each_vector
def test_vector_is_marked_as_error_if_and_only_if_it_names_one(vector: Vector) -> None:
    assert (vector.kind == "error") == (vector.error is not None)
    assert (vector.kind == "error") == (vector.raised in ("feed", "end"))


@each_vector
def test_vector_in_one_piece_is_decoded(vector: Vector) -> None:
    check(vector, replay(vector.wire, [vector.stream], offload=vector.offload))


@each_vector
def test_vector_in_single_bytes_is_decoded(vector: Vector) -> None:
    outcome = replay(vector.wire, one_by_one(vector.stream), offload=vector.offload)
    check(vector, outcome, in_order=True)


@each_vector
def test_vector_in_any_two_pieces_is_decoded(vector: Vector) -> None:
    for cut in range(len(vector.stream) + 1):
        pieces = [vector.stream[:cut], vector.stream[cut:]]
        check(vector, replay(vector.wire, pieces, offload=vector.offload))


@pytest.mark.parametrize(
    "vector",
    [pytest.param(v, id=f"{v.name}-{v.wire.value}") for v in VECTORS if v.raised != "end"],
)
def test_vector_with_the_start_of_another_block_is_decoded(vector: Vector) -> None:
    following = frame_block(FRAME)
    for length in range(1, len(following)):
        stream = vector.stream + following[:length]
        finely = one_by_one(stream)
        for chunks in ([stream], [vector.stream, following[:length]], finely):
            outcome = replay(vector.wire, chunks, end=False, offload=vector.offload)
            assert apart(outcome.blocks) == apart(vector.expected)
            assert chunks is not finely or outcome.blocks == vector.expected
            assert outcome.raised == vector.raised
            assert outcome.held == (length if vector.error is None else 0)


@pytest.mark.parametrize(
    "vector",
    [pytest.param(v, id=f"{v.name}-{v.wire.value}") for v in VECTORS if v.kind == "valid"],
)
def test_encoder_returns_the_bytes_of_the_vectors(vector: Vector) -> None:
    for block in vector.expected:
        ((kind, value),) = block.items()
        if kind == "hello":
            continue
        made = {
            "frame": lambda v: encode_frames([bytes.fromhex(v)], FRAME_LIMIT_V1).data,
            "offload": lambda v: (
                encode_frames(
                    [OffloadFrame(bytes.fromhex(v))], FRAME_LIMIT_V2, header_kinds(ALL_OFFLOADS)
                ).data
            ),
            "ack": lambda v: encode_control(Ack(v)),
            "timed_ack": lambda v: encode_control(Ack(*v)),
            "ping": lambda v: encode_control(Ping(v)),
            "pong": lambda v: encode_control(Pong(v)),
            "bye": lambda v: encode_control(Bye(v)),
        }[kind](value)
        assert made in vector.stream


def test_encoder_returns_the_hello_of_the_document() -> None:
    (stream,) = {v.stream for v in VECTORS if v.name == "hello"}
    assert stream == HELLO_BLOCK
