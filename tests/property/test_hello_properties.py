"""A HELLO of any content: read or refused, and what two of them agree on."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.streams import (
    chopped,
    chops,
    hellos,
    run,
    thoroughly,
)
from vknet.errors import RemoteProtocolError
from vknet.framing import Wire
from vknet.wire.hello import (
    HELLO_LIMIT,
    MTU_MAX,
    MTU_MIN,
    TIMEOUT_MAX_S,
    TIMEOUT_MIN_S,
    Hello,
)
from vknet.wire.negotiation import negotiate

no_json = st.sampled_from([float("nan"), float("inf"), float("-inf")])
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
keys = st.sampled_from([*json.loads(Hello("", "", 1, None, mtu_fixed=False, timeout=1).to_json())])
near_numbers = st.sampled_from([0, 1, 1.5, 2, 67, 68, 65521, 65522, 86400, 86400.5, 2**31, -1])


def changed(hello: Hello, changes: dict[str, Any], gone: set[str]) -> bytes:
    values = json.loads(hello.to_json()) | changes
    return json.dumps({key: v for key, v in values.items() if key not in gone}).encode()


payloads = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=50).map(lambda s: s.encode("utf-8", "surrogatepass")),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.builds(
        changed,
        hellos,
        st.dictionaries(keys, json_values | near_numbers | no_json, max_size=3),
        st.sets(keys, max_size=2),
    ),
)


def read_or_refused(payload: bytes) -> Hello | None:
    """What a HELLO says; None if it is refused, in one printable line."""
    message = ""
    try:
        return Hello.from_json(payload)
    except RemoteProtocolError as exc:
        message = str(exc)
    assert message.isprintable()
    assert message.startswith("the peer's HELLO ")
    return None


@thoroughly
@given(hellos)
def test_hello_is_decoded_as_it_was_encoded(hello: Hello) -> None:
    assert Hello.from_json(hello.to_json()) == hello


@thoroughly
@given(payloads)
@example(b"[" * HELLO_LIMIT)
@example(b'{"a":' * 800)
@example(b"9" * HELLO_LIMIT)
@example(b'{"wire":' + b"9" * 4000 + b"}")
@example(b'{"wire":1e999,"program":"","endpoint":"","frame_limit":1,"timeout":1}')
@example(b"\xff\xfe")
@example(b"")
def test_hello_of_any_values_is_rejected_or_within_all_limits(payload: bytes) -> None:
    hello = read_or_refused(payload)
    if hello is None:
        return
    assert hello.program.isprintable()
    assert hello.endpoint.isprintable()
    assert isinstance(hello.frame_limit, int)
    assert hello.frame_limit >= 1
    assert hello.mtu is None or MTU_MIN <= hello.mtu <= MTU_MAX
    assert TIMEOUT_MIN_S <= hello.timeout <= TIMEOUT_MAX_S
    assert hello.wire >= 2


@thoroughly
@given(hellos, st.dictionaries(st.text(max_size=10), json_values, max_size=5))
def test_unknown_keys_of_a_hello_are_ignored(hello: Hello, more: dict[str, Any]) -> None:
    values = more | json.loads(hello.to_json())
    assert Hello.from_json(json.dumps(values).encode()) == hello


@thoroughly
@given(hellos, hellos)
def test_both_sides_agree_on_the_same_mtu(ours: Hello, theirs: Hello) -> None:
    agreed = negotiate(ours, theirs).mtu
    assert agreed == negotiate(theirs, ours).mtu
    assert agreed in (ours.mtu, theirs.mtu)
    fixed = [h.mtu for h in (ours, theirs) if h.mtu_fixed and h.mtu is not None]
    assert not fixed or agreed == min(fixed)


@thoroughly
@given(payloads, chops)
def test_hello_block_with_any_payload_is_decoded_or_an_error(
    payload: bytes, sizes: list[int]
) -> None:
    stream = b"\1VK2" + len(payload).to_bytes(4, "little") + payload
    outcome = run(Wire.AUTO, 65664, chopped(stream, sizes))
    hello = read_or_refused(payload) if payload else None
    assert outcome.blocks == ([] if hello is None else [hello])
    assert (outcome.error is None) == (hello is not None)
