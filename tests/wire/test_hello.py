"""HELLO: what is sent, and what is accepted from a peer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from vknet.errors import LocalProtocolError, RemoteProtocolError
from vknet.framing import encode_control
from vknet.packet.virtio import ALL_OFFLOADS, NO_OFFLOADS, Offload
from vknet.wire.hello import (
    HELLO_LIMIT,
    MTU_MAX,
    MTU_MIN,
    TIMEOUT_MAX_S,
    TIMEOUT_MIN_S,
    Hello,
)

OURS = Hello(
    "vknet 2.0",
    "tap0",
    65664,
    1500,
    mtu_fixed=True,
    timeout=15.0,
    offloads=ALL_OFFLOADS,
    macs=frozenset({bytes.fromhex("020000000001")}),
)


def payload(**changes: Any) -> bytes:
    return json.dumps(json.loads(OURS.to_json()) | changes).encode()


def without(key: str) -> bytes:
    values = json.loads(OURS.to_json())
    del values[key]
    return json.dumps(values).encode()


def with_mtu(mtu: int | None, *, fixed: bool = False) -> Hello:
    return Hello("vknet 2.0", "tap0", 65664, mtu, fixed, 15.0)


def with_window(window: int | None) -> Hello:
    return Hello("vknet 2.0", "tap0", 65664, 1500, False, 15.0, window=window)


def test_encoded_hello_has_every_key_of_the_document() -> None:
    assert json.loads(OURS.to_json()) == {
        "wire": 2,
        "program": "vknet 2.0",
        "endpoint": "tap0",
        "frame_limit": 65664,
        "mtu": 1500,
        "mtu_fixed": True,
        "timeout": 15.0,
        "offloads": ["csum", "tso4", "tso6", "tso_ecn", "uso"],
        "window": 0,
        "ack_time": False,
        "macs": ["02:00:00:00:00:01"],
    }


def test_macs_are_decoded_as_they_were_encoded() -> None:
    macs = frozenset({bytes.fromhex("020000000001"), bytes.fromhex("fe0000000002")})
    assert Hello.from_json(replace(OURS, macs=macs).to_json()).macs == macs
    assert Hello.from_json(without("macs")).macs == frozenset()
    assert Hello.from_json(payload(macs=["02:00:00:00:00:0A"])).macs == {bytes([2, 0, 0, 0, 0, 10])}


@pytest.mark.parametrize("macs", ["020000000001", [1], ["02:00"], 5, {"a": 1}, [None]])
def test_macs_that_are_none_are_a_protocol_error(macs: object) -> None:
    with pytest.raises(RemoteProtocolError, match="no list of MAC addresses for 'macs'"):
        Hello.from_json(payload(macs=macs))


def test_hello_tells_at_most_sixteen_macs() -> None:
    macs = frozenset(bytes([2, 0, 0, 0, 0, n]) for n in range(40))
    assert len(Hello.from_json(replace(OURS, macs=macs).to_json()).macs) == 16


@pytest.mark.parametrize("window", [None, 0, 1, 100_000, 2**30])
def test_window_is_decoded_as_it_was_encoded(window: int | None) -> None:
    assert Hello.from_json(with_window(window).to_json()).window == window


@pytest.mark.parametrize(
    ("said", "meant"), [(True, True), (False, False), (None, False), (1, False)]
)
def test_ack_time_is_on_only_if_the_hello_has_true(said: object, meant: bool) -> None:
    assert Hello.from_json(payload(ack_time=said)).ack_time is meant
    assert Hello.from_json(without("ack_time")).ack_time is False


def test_hello_without_a_window_has_window_0() -> None:
    assert Hello.from_json(without("window")).window == 0


@pytest.mark.parametrize("value", ["off", "", None, True, -1, 2**30 + 1, [], "5"])
def test_invalid_window_is_rejected(value: object) -> None:
    with pytest.raises(RemoteProtocolError, match="'window'"):
        Hello.from_json(payload(window=value))


def test_hello_is_decoded_as_it_was_encoded() -> None:
    assert Hello.from_json(OURS.to_json()) == OURS
    assert Hello.from_json(with_mtu(None).to_json()) == with_mtu(None)


def test_long_name_is_truncated() -> None:
    hello = Hello("p" * 1000, "/" + "e" * 1000, 1, None, mtu_fixed=False, timeout=1)
    back = Hello.from_json(hello.to_json())
    assert back.program == "p" * 100
    assert back.endpoint == "/" + "e" * 99


def test_hello_with_the_longest_names_is_within_its_limit() -> None:
    hello = Hello("\U0001f600" * 200, "\U0001f600" * 200, 1, None, mtu_fixed=False, timeout=1)
    assert len(hello.to_json()) <= HELLO_LIMIT


def test_hello_over_the_limit_is_not_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Hello, "to_json", lambda _: b" " * (HELLO_LIMIT + 1))
    with pytest.raises(LocalProtocolError, match="a HELLO of 4097 bytes"):
        encode_control(OURS)


@pytest.mark.parametrize("key", ["wire", "program", "endpoint", "frame_limit", "timeout"])
def test_error_for_a_missing_key_names_it(key: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"'{key}'"):
        Hello.from_json(without(key))


def test_optional_keys_have_defaults() -> None:
    assert Hello.from_json(without("mtu")).mtu is None
    assert Hello.from_json(without("mtu_fixed")).mtu_fixed is False
    assert Hello.from_json(without("offloads")).offloads == NO_OFFLOADS
    assert Hello.from_json(payload(offloads=None)).offloads == NO_OFFLOADS


def test_unknown_offloads_are_ignored() -> None:
    assert Hello.from_json(payload(offloads=["tso4", "later", "tso4"])).offloads == Offload.TSO4
    assert Hello.from_json(payload(offloads=[])).offloads == NO_OFFLOADS


def test_unknown_keys_are_ignored() -> None:
    assert Hello.from_json(payload(windows=65536, later={"a": [1]})) == OURS


def test_later_version_of_the_wire_is_accepted() -> None:
    assert Hello.from_json(payload(wire=3)).wire == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("wire", 2), ("wire", 2**31), ("frame_limit", 1), ("frame_limit", 2**31)),
        *(("mtu", MTU_MIN), ("mtu", MTU_MAX), ("mtu", None), ("mtu_fixed", False)),
        *(("timeout", TIMEOUT_MIN_S), ("timeout", TIMEOUT_MAX_S), ("timeout", 1.5)),
        *(("program", ""), ("endpoint", "")),
    ],
)
def test_value_at_a_limit_is_accepted(key: str, value: object) -> None:
    assert getattr(Hello.from_json(payload(**{key: value})), key) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("wire", 1), ("wire", "2"), ("wire", None), ("wire", True), ("wire", 2**31 + 1)),
        *(("frame_limit", 0), ("frame_limit", -1), ("frame_limit", []), ("frame_limit", 0.5)),
        *(("mtu", 67), ("mtu", 65522), ("mtu", False), ("mtu", "1500"), ("mtu", {})),
        *(("timeout", 0), ("timeout", 0.999), ("timeout", 86401), ("timeout", True)),
        *(("program", 1), ("program", None), ("endpoint", ["tap0"]), ("endpoint", None)),
        *(("offloads", "csum"), ("offloads", [1]), ("offloads", {}), ("offloads", [["csum"]])),
        *(("wire", 10**400), ("timeout", -(10**400))),
    ],
)
def test_error_for_an_invalid_value_names_its_key(key: str, value: object) -> None:
    with pytest.raises(RemoteProtocolError, match=f"'{key}'"):
        Hello.from_json(payload(**{key: value}))


@pytest.mark.parametrize("value", ["yes", 1, "true", None, []])
def test_mtu_is_fixed_only_by_true(value: object) -> None:
    assert Hello.from_json(payload(mtu_fixed=value)).mtu_fixed is False


def test_fractions_are_rounded_down_except_in_the_timeout() -> None:
    hello = Hello.from_json(payload(frame_limit=99.9, mtu=1500.5, timeout=2.5))
    assert (hello.frame_limit, hello.mtu, hello.timeout) == (99, 1500, 2.5)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"hello", b"\xff\xff", b"{'wire':2}", b"[" * HELLO_LIMIT]
    + [OURS.to_json().replace(b"15.0", v) for v in (b"NaN", b"Infinity", b"-Infinity")],
)
def test_hello_that_is_not_json_is_rejected_and_shown(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="HELLO is not JSON: ") as caught:
        Hello.from_json(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", [b"[]", b"null", b"2", b'"hello"', b"true"])
def test_hello_that_is_not_an_object_is_rejected(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not a JSON object"):
        Hello.from_json(text)


def test_control_characters_of_received_names_are_escaped() -> None:
    hello = Hello.from_json(payload(program="evil\x1b[2J\n", endpoint="\u202e" + "x" * 500))
    assert hello.program == r"evil\x1b[2J\n"
    assert hello.endpoint.startswith(r"\u202exxx")
    assert hello.endpoint.isprintable()
    assert len(hello.endpoint) < 220
