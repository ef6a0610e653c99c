"""The pcap writer, compared with a reader."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pcap_reader import read_pcap
from vknet.capture.pcap import file_header, record


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2**32 - 1), st.binary(max_size=200))))
def test_reader_gets_the_frames_and_times_that_were_written(
    frames: list[tuple[float, bytes]],
) -> None:
    found = read_pcap(file_header() + b"".join(record(frame, seconds) for seconds, frame in frames))
    assert [frame for _, frame in found] == [frame for _, frame in frames]
    assert all(abs(a - b) < 1e-6 for (a, _), (b, _) in zip(found, frames, strict=True))
