"""Captures, as others read them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.capture.test_pcap import read
from vknet.capture.pcap import file_header, record


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2**32 - 1), st.binary(max_size=200))))
def test_what_is_written_is_what_is_read(frames: list[tuple[float, bytes]]) -> None:
    found = read(file_header() + b"".join(record(frame, seconds) for seconds, frame in frames))
    assert [frame for _, frame in found] == [frame for _, frame in frames]
    assert all(abs(a - b) < 1e-6 for (a, _), (b, _) in zip(found, frames, strict=True))
