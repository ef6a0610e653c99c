"""Hypothesis strategies: any bytes behind a valid header, and frames with a few changes."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from tests.support.filter_cases import LEGITIMATE, SPOOFED, TAGS
from tests.support.packets import CLIENT, TAP, add_tags

__all__ = ["changed", "headed"]

FRAMES: Final = [*LEGITIMATE.values(), *(frame for frame, _ in SPOOFED.values())]

# Numbers that mean something in some field: sizes, versions, protocols, ports, message types.
TELLING: Final = (
    *(0, 1, 2, 4, 6, 7, 13, 17, 43, 44, 47, 50, 51, 53, 58, 60, 67, 68, 112),
    *(130, 131, 133, 134, 135, 136, 137, 138, 143, 151, 255),
)

headed = st.builds(
    lambda tags, kind, rest: TAP + CLIENT + tags + kind + rest,
    st.sampled_from([b"", *TAGS.values()]),
    st.sampled_from([b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x88\xcc"]),
    st.binary(max_size=120),
)
"""Any bytes behind an Ethernet header, with or without tags."""


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A frame of the filter's cases with one to three changes to its bytes."""
    frame = bytearray(draw(st.sampled_from(FRAMES)))
    if draw(st.booleans()):
        frame = bytearray(add_tags(bytes(frame), draw(st.sampled_from(list(TAGS.values())))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(frame) - 1, 0)))
        value = draw(st.sampled_from(TELLING) | st.integers(0, 255))
        match draw(st.sampled_from(["set", "set", "set", "flip", "insert", "delete", "cut"])):
            case "set":
                frame[at : at + 1] = bytes([value])
            case "flip":
                frame[at : at + 1] = bytes([frame[at] ^ 1 << value % 8]) if frame else b""
            case "insert":
                frame[at:at] = bytes([value]) * 8
            case "delete":
                del frame[at : at + 8]
            case _:
                del frame[at:]
    return bytes(frame)
