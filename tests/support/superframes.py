"""Super-frames, built field by field, and a parser of packets.  Neither shares code with vknet."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final

from tests.support.packets import IPV4, IPV6, TCP, UDP, ethernet, ipv4, ipv6, ones_sum, tcp, udp
from vknet.packet.virtio import OffloadFrame

__all__ = ["DESTINATION", "SOURCE", "Super", "checksums_hold", "parts"]

DESTINATION: Final = bytes.fromhex("020000000002")
SOURCE: Final = bytes.fromhex("020000000001")

V4: Final = ("198.18.1.1", "198.18.1.2")
V6: Final = ("fd00:1::1", "fd00:1::2")


@dataclass(frozen=True)
class Super:
    """A frame with a partial checksum or more than one segment, and its offload header.

    Attributes:
        size: bytes of payload in a segment; 0 for a partial checksum alone.
        extensions: IPv6 extension headers, of which the first has the type `first`.
    """

    payload: bytes = b"x" * 4000
    size: int = 1448
    version: int = 4
    protocol: int = TCP
    tags: bytes = b""
    options: bytes = b""
    ip_options: bytes = b""
    extensions: bytes = b""
    first: int = 0
    flags: int = 0x18
    sequence: int = 1_000_000
    identification: int = 0x1234
    ecn: bool = False
    hdr_len: int | None = None
    header: dict[str, int] = field(default_factory=dict)

    def but(self, **changes: int) -> Super:
        """Return the same with fields of the offload header replaced, valid or not."""
        return replace(self, header=changes)

    def frame(self) -> OffloadFrame:
        """Return the frame as a TAP returns it."""
        transport = self._transport()
        ip = self._ip(transport)
        frame = ethernet(
            IPV4 if self.version == 4 else IPV6,
            ip,
            source=SOURCE,
            destination=DESTINATION,
            tags=self.tags,
        )
        start = len(frame) - len(transport)
        headers = len(frame) - len(self.payload)
        gso = {(4, TCP): 1, (6, TCP): 4}.get((self.version, self.protocol), 5) if self.size else 0
        fields = {
            "flags": 1,
            "gso_type": gso | (0x80 if self.ecn else 0),
            "hdr_len": (headers if self.hdr_len is None else self.hdr_len) if gso else 0,
            "gso_size": self.size,
            "csum_start": start,
            "csum_offset": 16 if self.protocol == TCP else 6,
        } | self.header
        return OffloadFrame(struct.pack("<BBHHHH", *fields.values()) + frame)

    def _transport(self) -> bytes:
        if self.protocol == UDP:
            checksum = self._pseudo(8 + len(self.payload))
            return udp(5000, 5001, self.payload, checksum=checksum)
        return tcp(
            self.flags,
            self.payload,
            options=self.options,
            ports=(5000, 5001),
            sequence=self.sequence,
            checksum=self._pseudo(20 + len(self.options) + len(self.payload)),
        )

    def _pseudo(self, length: int) -> int:
        addresses = [ip_address(text).packed for text in (V4 if self.version == 4 else V6)]
        return ones_sum(b"".join(addresses) + struct.pack("!II", length, self.protocol))

    def _ip(self, transport: bytes) -> bytes:
        if self.version == 6:
            kind = self.first if self.extensions else self.protocol
            payload = self.extensions + transport
            return ipv6(V6[0], kind, payload, destination=V6[1], hop_limit=64)
        return ipv4(
            V4[0],
            self.protocol,
            transport,
            destination=V4[1],
            options=self.ip_options,
            identification=self.identification,
            whole=True,
        )


@dataclass(frozen=True)
class Parts:
    """The parts of the IP packet in a plain frame."""

    version: int
    ip: bytes
    protocol: int
    transport: bytes

    @property
    def payload(self) -> bytes:
        """The payload of TCP or UDP."""
        return self.transport[8 if self.protocol == UDP else self.transport[12] >> 4 << 2 :]


def parts(frame: bytes) -> Parts:
    """Parse a frame with TCP or UDP, which may have tags and plain IPv6 extension headers."""
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    at += 2
    if frame[at] >> 4 == 4:
        size = (frame[at] & 15) * 4
        (total,) = struct.unpack_from("!H", frame, at + 2)
        end = at + total
        return Parts(4, frame[at : at + size], frame[at + 9], frame[at + size : end])
    (length,) = struct.unpack_from("!H", frame, at + 4)
    kind, start = frame[at + 6], at + 40
    while kind not in (TCP, UDP):
        kind, start = frame[start], start + 8 + frame[start + 1] * 8
    return Parts(6, frame[at:start], kind, frame[start : at + 40 + length])


def checksums_hold(frame: bytes) -> bool:
    """Whether the checksums of a plain frame are valid."""
    packet = parts(frame)
    addresses = packet.ip[12:20] if packet.version == 4 else packet.ip[8:40]
    pseudo = addresses + struct.pack("!II", len(packet.transport), packet.protocol)
    header = packet.version == 6 or ones_sum(packet.ip) == 0xFFFF
    return header and ones_sum(pseudo + packet.transport) == 0xFFFF
