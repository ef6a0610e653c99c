"""Captures in the classic pcap format, which every tool for them reads: pcap-savefile(5).  Pure.

    file      4 magic   2 major   2 minor   4 zone   4 accuracy   4 longest record   4 link type
    record    4 seconds   4 microseconds   4 size in the file   4 size of the frame   the frame

The magic tells the byte order, which is the writer's to choose, and the unit of a second's
fraction.  A float holds the time of today to a quarter of a microsecond: there are no nanoseconds
to be had from it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vknet.packet.ethernet import Frame

__all__ = ["SNAPLEN", "file_header", "record"]

FILE: Final = struct.Struct("<IHHiIII")
PCAP_MAGIC: Final = 0xA1B2C3D4
VERSION: Final = (2, 4)
LINKTYPE_ETHERNET: Final = 1

SNAPLEN: Final = 262144
"""What tcpdump(8) says, and the most that readers believe; four times the longest frame."""

RECORD: Final = struct.Struct("<IIII")
MICROSECONDS: Final = 1_000_000


def file_header() -> bytes:
    """What a capture begins with, once."""
    return FILE.pack(PCAP_MAGIC, *VERSION, 0, 0, SNAPLEN, LINKTYPE_ETHERNET)


def record(frame: Frame, seconds: float) -> bytes:
    """What a frame is in a capture.

    Args:
        frame: cut off behind `SNAPLEN` bytes.
        seconds: when it was seen, since 1970 and until 2106.
    """
    whole, fraction = divmod(round(seconds * MICROSECONDS), MICROSECONDS)
    caught = frame[:SNAPLEN]
    return RECORD.pack(whole, fraction, len(caught), len(frame)) + caught
