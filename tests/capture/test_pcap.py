"""The pcap format, byte by byte and as read by tcpdump(8)."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.described_frames import LINES, MESSAGES
from tests.support.pcap_reader import read_pcap
from vknet.capture.pcap import SNAPLEN, file_header, record

if TYPE_CHECKING:
    from pathlib import Path


def test_file_header_is_that_of_the_format() -> None:
    assert file_header() == bytes.fromhex(
        "d4c3b2a1"  # magic, little-endian, microseconds
        "0200 0400"  # version 2.4
        "00000000 00000000"  # zone, accuracy
        "00000400"  # snapshot length 262144
        "01000000"  # Ethernet
    )


def test_record_holds_the_time_both_sizes_and_the_frame() -> None:
    assert record(b"frame", 258.5) == (
        bytes.fromhex("02010000 20a10700 05000000 05000000") + b"frame"
    )
    assert record(memoryview(b"frame"), 258.5) == record(b"frame", 258.5)


@pytest.mark.parametrize(
    ("seconds", "whole", "fraction"),
    [
        (0.0, 0, 0),
        (1.9999994, 1, 999_999),
        (1.9999996, 2, 0),
        (1_700_000_000.000001, 1_700_000_000, 1),
        (4_294_967_295.0, 4_294_967_295, 0),
    ],
)
def test_time_is_rounded_to_microseconds(seconds: float, whole: int, fraction: int) -> None:
    assert record(b"", seconds)[:8] == whole.to_bytes(4, "little") + fraction.to_bytes(4, "little")


def test_frame_over_the_snapshot_length_is_truncated_and_keeps_its_size() -> None:
    found = record(bytes(SNAPLEN + 1), 0.0)
    assert len(found) == 16 + SNAPLEN
    assert found[8:16] == SNAPLEN.to_bytes(4, "little") + (SNAPLEN + 1).to_bytes(4, "little")


def test_tcpdump_reads_every_frame(tmp_path: Path) -> None:
    frames = [frame for frame, _ in (*LINES.values(), *MESSAGES.values())]
    frames += [b"", bytes(65664)]
    file = tmp_path / "crafted.pcap"
    moments = [1_700_000_000 + n + 0.25 for n in range(len(frames))]
    file.write_bytes(file_header() + b"".join(map(record, frames, moments)))
    # It writes the capture again instead of printing: it prints some frames in two lines.
    copy = tmp_path / "copy.pcap"
    done = subprocess.run(
        ["tcpdump", "-r", file, "-w", copy], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "link-type EN10MB" in done.stderr
    assert read_pcap(copy.read_bytes()) == list(zip(moments, frames, strict=True))
