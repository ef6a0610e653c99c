"""The classic pcap format, which every capture tool reads: pcap-savefile(5).  Pure.

    file      4 magic   2 major   2 minor   4 zone   4 accuracy   4 snapshot length   4 link type
    record    4 seconds   4 microseconds   4 captured bytes   4 frame bytes   the frame

The magic number tells the reader the byte order, which the writer chooses, and the unit of the
fraction.  The unit here is the microsecond, because the times are floats: today they are a quarter
of a microsecond apart, which is too coarse for nanoseconds.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vknet.packet.ethernet import Frame

__all__ = ["SNAPLEN", "file_header", "record"]

FILE_HEADER: Final = struct.Struct("<IHHiIII")
PCAP_MAGIC: Final = 0xA1B2C3D4
VERSION: Final = (2, 4)
LINKTYPE_ETHERNET: Final = 1

SNAPLEN: Final = 262144
"""The snapshot length in bytes: the maximum that readers accept, and the default of tcpdump(8).  It
is four times the size of the longest frame."""

RECORD_HEADER: Final = struct.Struct("<IIII")
US_PER_S: Final = 1_000_000


def file_header() -> bytes:
    """Return the header of a capture file."""
    return FILE_HEADER.pack(PCAP_MAGIC, *VERSION, 0, 0, SNAPLEN, LINKTYPE_ETHERNET)


def record(frame: Frame, seconds: float) -> bytes:
    """Return the record of a frame.

    Args:
        frame: the frame; it is truncated to `SNAPLEN` bytes.
        seconds: when it was captured: seconds since 1970, until 2106.
    """
    whole, fraction = divmod(round(seconds * US_PER_S), US_PER_S)
    captured = frame[:SNAPLEN]
    return RECORD_HEADER.pack(whole, fraction, len(captured), len(frame)) + captured
