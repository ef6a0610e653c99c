"""Runs on a host of its own: what the kernel makes of super-frames, beside what `segment` makes.

Two TAPs in a bridge: super-frames are written into the one, and leave at the other, which takes
plain frames only.
"""

from __future__ import annotations

import json
import os
import random
import select
import struct
import subprocess
from collections import Counter
from dataclasses import replace
from fcntl import ioctl
from typing import TYPE_CHECKING, Final

from tests.support.packets import TCP, UDP
from tests.support.superframes import Super
from vknet.counters import DropReason
from vknet.endpoints import tun
from vknet.packet.gso import segment
from vknet.packet.virtio import OffloadFrame, validate

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED: Final = 2008
CASES: Final = 600
MUTATIONS: Final = 4000
MTU: Final = 9000

TAGS: Final = (b"", bytes.fromhex("8100 0005"), bytes.fromhex("88a8 0006 8100 0007"))
# Timestamps, then selective acknowledgement: what most segments have, and as much as there may be.
OPTIONS: Final = (b"", bytes.fromhex("0101080a 00000001 00000002"), bytes(40))


def plain_tap(name: str) -> int:
    fd = tun.open_device()
    ioctl(fd, tun.TUNSETIFF, tun.IFREQ.pack(name.encode(), tun.IFF_TAP | tun.IFF_NO_PI))
    return fd


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def a_super_frame(rng: random.Random) -> Super:
    protocol = rng.choice([TCP, TCP, UDP])
    size = rng.choice([0, 8, 100, 536, 1000, 1447, 1448, 1460, 8948])
    most = min(60000, size * 100) if size else 1400
    version = rng.choice([4, 6])
    extension = rng.choice([b"", b"", bytes([protocol, 0, 1, 4, 0, 0, 0, 0])])
    return Super(
        payload=rng.randbytes(rng.choice([1, size or 1, rng.randint(1, most), most])),
        size=size,
        version=version,
        protocol=protocol,
        tags=rng.choice(TAGS),
        options=rng.choice(OPTIONS) if protocol == TCP else b"",
        ip_options=rng.choice([b"", b"\x01" * 4]) if version == 4 else b"",
        extensions=extension if version == 6 else b"",
        first=rng.choice([0, 60]),
        flags=rng.randrange(256),
        sequence=rng.choice([1, 2**32 - 5000, rng.randrange(2**32)]),
        identification=rng.choice([0, 0xFFFE, rng.randrange(2**16)]),
        ecn=rng.random() < 0.3 and protocol == TCP and size > 0,
        hdr_len=rng.choice([None, 0]),
    )


def mutated(rng: random.Random, frame: OffloadFrame) -> OffloadFrame:
    """The same with one to three bytes of its headers changed, or cut short."""
    data = bytearray(frame.data)
    for _ in range(rng.randint(1, 3)):
        at = rng.choice([rng.randrange(10), rng.randrange(min(len(data), 10 + 90))])
        data[at] = rng.choice([0, 1, 4, 5, 0x80, 0xFF, rng.randrange(256), data[at] ^ 1])
    # Never the destination: it has to leave at the other TAP.
    data[10:16] = frame.data[10:16]
    # Nor an address that the bridge does not learn, or a protocol of its own.
    data[16:22] = frame.data[16:22]
    if rng.random() < 0.1:
        del data[rng.randint(24, len(data)) :]
    return OffloadFrame(bytes(data))


def cases(rng: random.Random) -> Iterator[OffloadFrame]:
    for _ in range(CASES):
        yield a_super_frame(rng).frame()
    for _ in range(MUTATIONS):
        base = replace(a_super_frame(rng), payload=rng.randbytes(rng.randint(1, 4000)))
        yield mutated(rng, base.frame())


def drained(fd: int, wait: float) -> list[bytes]:
    frames = []
    while select.select([fd], [], [], wait)[0]:
        frames.append(os.read(fd, 70_000))
        wait = 0
    return frames


def until_marker(fd: int, marker: bytes) -> list[bytes]:
    """What left before the frame that was written last."""
    frames: list[bytes] = []
    while True:
        got = drained(fd, 5)
        if not got:
            raise AssertionError("the marker did not come")
        frames += got
        if frames[-1] == marker:
            return frames[:-1]


def main() -> None:
    inside, outside = tun.open_device(), plain_tap("out0")
    tun.set_interface(inside, "in0")
    # Without a packet filter, which would look at the IP header, too.
    ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    for name in ("iptables", "ip6tables", "arptables"):
        subprocess.run(["sysctl", "-qwe", f"net.bridge.bridge-nf-call-{name}=0"], check=True)
    for name in ("in0", "out0"):
        ip("link", "set", name, "mtu", str(MTU), "txqueuelen", "100000", "master", "br0", "up")
    ip("link", "set", "br0", "mtu", str(MTU), "up")
    drained(outside, 0.1)

    outcome: Counter[str] = Counter()
    for number, frame in enumerate(cases(random.Random(SEED))):
        offsets = validate(frame.data, MTU)
        if isinstance(offsets, DropReason):
            outcome["refused here"] += 1
            continue
        if frame.is_super and offsets.payload == 0:
            outcome["not for the kernel"] += 1
            continue
        os.write(inside, frame.data)
        marker = bytes.fromhex("020000000002 020000000001 88b5") + struct.pack("!I", number)
        os.write(inside, bytes(10) + marker)
        made = until_marker(outside, marker)
        ours = segment(frame, offsets)
        if made != ours:
            print(
                "differs", number, bytes(frame.data)[:140].hex(), len(frame), len(made), len(ours)
            )
            for theirs, mine in zip(made, ours, strict=False):
                if theirs != mine:
                    print(theirs[:120].hex(), mine[:120].hex(), sep="\n")
                    break
            outcome["differs"] += 1
        else:
            outcome["segments" if len(ours) > 1 else "whole"] += 1
    print(json.dumps(outcome))
    os.close(inside)
    os.close(outside)


if __name__ == "__main__":
    for scope in ("all", "default"):
        subprocess.run(["sysctl", "-qw", f"net.ipv6.conf.{scope}.disable_ipv6=1"], check=True)
    main()
