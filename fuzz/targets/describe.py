"""`vknetd -c`: any frame is described in one line that is safe for a terminal, and true.

The input is a frame.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from fuzz.frames import FRAMES
from fuzz.targets.filter import WORDS as FILTER_WORDS
from tests.support.described_frames import LINES, MESSAGES
from vknet.capture.describe import describe

MAX_SIZE: Final = 800
WORDS: Final = (
    *FILTER_WORDS,
    *(b"\x63\x82\x53\x63\x35\x01\x01", b"\x00\x26\x42\x42\x03", b"\xaa\xaa\x03"),
    *(bytes([kind, code]) for kind in (3, 11, 1, 2, 128) for code in (0, 4)),
)

TAGS: Final = (b"\x81\x00", b"\x88\xa8")
PRINTABLE: Final = frozenset(map(chr, range(0x20, 0x7F)))
LINE_MAX: Final = 1000


def seeds() -> dict[str, bytes]:
    return {
        **FRAMES,
        **{name: frame for name, (frame, _) in (*LINES.items(), *MESSAGES.items())},
        "empty": b"",
        "runt": b"\x1b[2J",
    }


def run(data: bytes) -> None:
    line = describe(data)
    assert set(line) <= PRINTABLE, "a byte for the terminal"
    assert len(line) < LINE_MAX
    assert line.endswith(f"length {len(data)}")
    assert describe(memoryview(data)) == line
    if len(data) < (18 if data[12:14] in TAGS else 14):
        assert line.startswith("cut short")
        return
    source, destination = data[6:12].hex(":"), data[:6].hex(":")
    assert line.startswith(f"{source} > {destination}, ")
    at = 12
    vlans = 0
    while data[at : at + 2] in TAGS and len(data) >= at + 6 and vlans < 4:
        assert f"vlan {int.from_bytes(data[at + 2 : at + 4], 'big') & 0xFFF}" in line
        at += 4
        vlans += 1
    kind, packet = data[at : at + 2], data[at + 2 :]
    if kind == b"\x08\x00" and len(packet) >= 20:
        for address in (packet[12:16], packet[16:20]):
            assert str(IPv4Address(address)) in line
    if kind == b"\x86\xdd" and len(packet) >= 40:
        for address in (packet[8:24], packet[24:40]):
            assert str(IPv6Address(address)) in line
    if kind == b"\x08\x06":
        assert ", ARP " in line
