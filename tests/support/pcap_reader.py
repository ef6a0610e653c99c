"""A reader of pcap files, written from pcap-savefile(5) and not from vknet's writer."""

from __future__ import annotations

import struct

__all__ = ["read_pcap"]


def read_pcap(capture: bytes) -> list[tuple[float, bytes]]:
    """Read a capture of Ethernet frames, none of which is truncated.

    Returns:
        The time of each frame in seconds, and the frame.
    """
    order = {b"\xa1\xb2\xc3\xd4": ">", b"\xd4\xc3\xb2\xa1": "<"}[capture[:4]]
    major, minor, zone, accuracy, snaplen, link = struct.unpack_from(f"{order}HHIIII", capture, 4)
    assert (major, minor, zone, accuracy, link) == (2, 4, 0, 0, 1)
    frames = []
    at = 24
    while at < len(capture):
        seconds, fraction, captured, size = struct.unpack_from(f"{order}IIII", capture, at)
        assert fraction < 1_000_000
        assert captured == size <= snaplen
        at += 16 + captured
        assert at <= len(capture)
        frames.append((seconds + fraction / 1e6, capture[at - captured : at]))
    return frames
