"""The pcap format, byte by byte and as others read it."""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.capture.test_describe import LINES, MESSAGES
from vknet.capture.pcap import SNAPLEN, file_header, record

if TYPE_CHECKING:
    from pathlib import Path


def read(capture: bytes) -> list[tuple[float, bytes]]:
    """Read a capture as pcap-savefile(5) says, and not as it was written."""
    order = {b"\xa1\xb2\xc3\xd4": ">", b"\xd4\xc3\xb2\xa1": "<"}[capture[:4]]
    major, minor, zone, accuracy, longest, link = struct.unpack_from(f"{order}HHIIII", capture, 4)
    assert (major, minor, zone, accuracy, link) == (2, 4, 0, 0, 1)
    found = []
    at = 24
    while at < len(capture):
        seconds, fraction, caught, size = struct.unpack_from(f"{order}IIII", capture, at)
        assert fraction < 1_000_000
        assert caught == size <= longest
        at += 16 + caught
        assert at <= len(capture)
        found.append((seconds + fraction / 1e6, capture[at - caught : at]))
    return found


def test_a_capture_begins_with_what_the_format_says() -> None:
    assert file_header() == bytes.fromhex(
        "d4c3b2a1"  # magic, little-endian, microseconds
        "0200 0400"  # version 2.4
        "00000000 00000000"  # zone, accuracy
        "00000400"  # 262144
        "01000000"  # Ethernet
    )


def test_a_record_holds_the_time_both_sizes_and_the_frame() -> None:
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
def test_a_time_is_rounded_to_microseconds(seconds: float, whole: int, fraction: int) -> None:
    assert record(b"", seconds)[:8] == whole.to_bytes(4, "little") + fraction.to_bytes(4, "little")


def test_a_frame_over_the_limit_is_cut_off_and_that_is_said() -> None:
    found = record(bytes(SNAPLEN + 1), 0.0)
    assert len(found) == 16 + SNAPLEN
    assert found[8:16] == SNAPLEN.to_bytes(4, "little") + (SNAPLEN + 1).to_bytes(4, "little")


def test_tcpdump_reads_every_frame(tmp_path: Path) -> None:
    frames = [frame for frame, _ in (*LINES.values(), *MESSAGES.values())]
    frames += [b"", bytes(65664)]
    file = tmp_path / "crafted.pcap"
    moments = [1_700_000_000 + n + 0.25 for n in range(len(frames))]
    file.write_bytes(file_header() + b"".join(map(record, frames, moments)))
    # Not printed, but written again: some frames it prints in two lines.
    again = tmp_path / "again.pcap"
    done = subprocess.run(
        ["tcpdump", "-r", file, "-w", again], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "link-type EN10MB" in done.stderr
    assert read(again.read_bytes()) == list(zip(moments, frames, strict=True))
