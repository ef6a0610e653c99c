"""HELLO: any payload is refused in one line, or is read as the JSON object that it is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from vknet.errors import RemoteProtocolError, escaped
from vknet.packet.virtio import ALL_OFFLOADS, NO_OFFLOADS, Offload
from vknet.wire.blocks import FRAME_LIMIT_V2
from vknet.wire.hello import (
    HELLO_LIMIT,
    MTU_MAX,
    MTU_MIN,
    TIMEOUT_MAX_S,
    TIMEOUT_MIN_S,
    WINDOW_MAX,
    Hello,
)
from vknet.wire.negotiation import negotiate

MAX_SIZE: Final = HELLO_LIMIT
WORDS: Final = (
    *(f'"{key}":'.encode() for key in ("wire", "program", "endpoint", "frame_limit", "mtu")),
    *(f'"{key}":'.encode() for key in ("mtu_fixed", "timeout", "offloads", "window", "ack_time")),
    *(f'"{name}"'.encode() for name in (*ALL_OFFLOADS.names, "auto")),
    *(b"null", b"true", b"false", b"NaN", b"Infinity", b"1e999", b"-1", b"65521", b"\\ud800"),
    *(b"[[[[", b'{"a":', b"\x1b[2J", b"\xff"),
)

OURS: Final = (
    Hello("vknet 1", "tap0", FRAME_LIMIT_V2, 1500, mtu_fixed=False, timeout=15, window=None,
          offloads=ALL_OFFLOADS, ack_time=True),
    Hello("vknet 1", "/run/vknet", FRAME_LIMIT_V2, None, mtu_fixed=False, timeout=5, window=0),
    Hello("vknet 1", "tap1", FRAME_LIMIT_V2, 9000, mtu_fixed=True, timeout=60, window=65536),
)  # fmt: skip


def seeds() -> dict[str, bytes]:
    hellos = [hello.to_json() for hello in OURS]
    return {
        **{f"hello {number}": hello for number, hello in enumerate(hellos)},
        "with spaces": json.dumps(json.loads(hellos[0]), indent=1).encode(),
        "unknown keys": hellos[0][:-1] + b',"lanes":[1,{"a":null}],"offloads":["csum","new"]}',
        "no mtu": hellos[0].replace(b"1500", b"null"),
        "escapes": hellos[0].replace(b"tap0", rb"\u001b[2J\ud800\n"),
        "nested": b"[" * 2000,
        "long number": b'{"wire":' + b"9" * 4000 + b"}",
        "not an object": b'"vknet"',
        "not UTF-8": b'{"wire":2,"program":"\xff"}',
    }


def run(data: bytes) -> None:
    message = ""
    try:
        hello = Hello.from_json(data)
    except RemoteProtocolError as exc:
        message = str(exc)
    else:
        check_values(hello, json.loads(data))
        check_round_trip(hello)
        for ours in OURS:
            check_negotiated(ours, hello)
        return
    assert message.isprintable(), "a message for a terminal"
    assert message.startswith("the peer's HELLO ")
    assert len(message) < 400


def check_values(hello: Hello, values: dict[str, Any]) -> None:
    """Compare a HELLO with what json says of its payload."""
    assert hello.wire >= 2
    assert hello.frame_limit == int(values["frame_limit"]) >= 1
    assert TIMEOUT_MIN_S <= hello.timeout == values["timeout"] <= TIMEOUT_MAX_S
    assert hello.mtu_fixed is (values.get("mtu_fixed") is True)
    assert hello.ack_time is (values.get("ack_time") is True)
    assert (hello.mtu is None) == (values.get("mtu") is None)
    assert hello.mtu is None or MTU_MIN <= hello.mtu == int(values["mtu"]) <= MTU_MAX
    assert hello.window is None or 0 <= hello.window <= WINDOW_MAX
    assert (hello.window is None) == (values.get("window") == "auto")
    named = {name for name in values.get("offloads") or [] if name in ALL_OFFLOADS.names}
    assert set(hello.offloads.names) == named
    for key, text in (("program", hello.program), ("endpoint", hello.endpoint)):
        assert text.isprintable()
        assert text == escaped(values[key])


def check_round_trip(hello: Hello) -> None:
    payload = hello.to_json()
    assert len(payload) <= HELLO_LIMIT
    short = replace(hello, program=hello.program[:100], endpoint=hello.endpoint[:100])
    assert Hello.from_json(payload) == short


def check_negotiated(ours: Hello, theirs: Hello) -> None:
    """Assert what has to hold for the terms of both sides."""
    mine, peers = negotiate(ours, theirs), negotiate(theirs, ours)
    assert mine.mtu == peers.mtu
    assert mine.mtu in (ours.mtu, theirs.mtu)
    assert mine.sends_acks == peers.sends_acks
    assert 1 <= mine.frame_limit <= min(theirs.frame_limit, FRAME_LIMIT_V2)
    assert mine.offloads & ~(ours.offloads & theirs.offloads) == NO_OFFLOADS
    assert mine.offloads == peers.offloads
    assert mine.offloads == NO_OFFLOADS or Offload.CSUM in mine.offloads
    assert (mine.timeout, mine.peer_timeout) == (ours.timeout, theirs.timeout)
    assert not mine.may_change_mtu or mine.mtu == ours.mtu or (mine.mtu or 0) >= 1280
