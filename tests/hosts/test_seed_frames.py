"""The seed frames of the fuzzers, as tcpdump sees them."""

from __future__ import annotations

import re
import struct
import subprocess
from typing import TYPE_CHECKING, Final

from fuzz.frames import FRAMES

if TYPE_CHECKING:
    from pathlib import Path

# What tcpdump 4.9 and later print, where it is not the name of the frame or its first word.
PRINTED: Final = {
    "RARP": "Reverse ARP",
    "802.1ad": "802.1Q-QinQ",
    "RSTP": "802.1w",
    "MSTP": "802.1s",
    "NetBIOS": "NetBeui",
    "SMB": "length 40",
    "DNS over TCP": "A? example.",
    "DNS": "A? example.",
    "mDNS": "A (QM)? example.",
    "ping": "ICMP echo request",
    "IGMPv3 report": "igmp v3 report",
    "6in4": "proto IPv6 (41)",
    "PPTP": "GREv1",
    "ping6": "ICMP6, echo request",
    "RS": "router solicitation",
    "NS": "neighbor solicitation",
    "MLD query": "multicast listener query",
    "MLD report": "multicast listener report",
    "MLDv2 report": "multicast listener report v2",
    "DHCPv6": "dhcp6 solicit",
    "DHCPv6 relay": "dhcp6 relay-fwd",
    "4in6": "IPIP (4)",
    "SRv6": "Routing (43)",
}
# Those that some versions of tcpdump do not know.
UNKNOWN: Final = frozenset(
    ("Wake-on-LAN", "MVRP", "GLBP", "RTP", "GTP", "LISP", "WireGuard", "UDP-Lite", "unknown")
)


def test_tcpdump_knows_each_seed_frame_by_its_name(tmp_path: Path) -> None:
    capture = tmp_path / "frames.pcap"
    # pcap-savefile(5): version 2.4, link type Ethernet; the time stamp is the number of the frame.
    records = [
        struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame
        for number, frame in enumerate(FRAMES.values())
    ]
    capture.write_bytes(
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(records)
    )
    command = ["tcpdump", "-Z", "root", "-n", "-v", "-e", "-tt", "-r", str(capture)]
    done = subprocess.run(command, capture_output=True, check=True)
    output = done.stdout.decode(errors="replace")
    texts = re.split(r"^(\d+)\.0{6} ", output, flags=re.MULTILINE)[1:]
    printed = dict(zip(map(int, texts[::2]), texts[1::2], strict=True))
    wrong = {
        name: printed.get(number)
        for number, name in enumerate(FRAMES)
        if name not in UNKNOWN
        and not any(
            words.lower() in printed.get(number, "").lower()
            for words in ([PRINTED[name]] if name in PRINTED else [name, name.split()[0]])
        )
    }
    assert wrong == {}
