"""The description of any bytes is one line that is safe for a terminal."""

from __future__ import annotations

from typing import Final

from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.support.described_frames import LINES, MESSAGES
from tests.support.packets import CLIENT, TAP, tag
from vknet.capture.describe import describe

PRINTABLE: Final = frozenset(map(chr, range(0x20, 0x7F)))
EVERY_FRAME: Final = [frame for frame, _ in (*LINES.values(), *MESSAGES.values())]

thoroughly = settings(deadline=None, max_examples=500)

headed = st.builds(
    lambda tags, kind, rest: TAP + CLIENT + tags + kind + rest,
    st.sampled_from([b"", tag(5), tag(5, 0x88A8) + tag(0xFFFF)]),
    st.sampled_from([b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x88\xcc", b"\x00\x26"]),
    st.binary(max_size=400),
)


def check_line(frame: bytes) -> None:
    line = describe(frame)
    assert set(line) <= PRINTABLE
    assert line.endswith(f"length {len(frame)}")
    assert len(line) < 1000
    assert describe(memoryview(frame)) == line


@thoroughly
@given(st.binary(max_size=120) | headed)
def test_any_bytes_make_one_printable_line(frame: bytes) -> None:
    check_line(frame)


@thoroughly
@given(st.sampled_from(EVERY_FRAME), st.data())
def test_truncated_frame_makes_one_printable_line(frame: bytes, data: st.DataObject) -> None:
    check_line(frame[: data.draw(st.integers(0, len(frame)))])


@settings(deadline=None, max_examples=1500)
@given(st.sampled_from(EVERY_FRAME), st.data())
def test_changed_frame_makes_one_printable_line(frame: bytes, data: st.DataObject) -> None:
    changed = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(changed) - 1, 120)))
        changed[at] = data.draw(st.integers(0, 255))
    event("another line" if describe(bytes(changed)) != describe(frame) else "the same line")
    check_line(bytes(changed))
