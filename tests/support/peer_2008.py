#!/usr/bin/env python3
"""A stand-in for the vknet of 2008: it speaks wire v1 only.

    peer_2008.py [-C] [-b bridge] [-B bridge] [-r delay] local-spec host[:remote-spec]
    peer_2008.py -S [-b bridge] local-spec

It behaves like the original.  It parses options with getopt(3), and accepts -B in every mode but
ignores it with -S.  It disconnects from a peer that sends anything but v1 blocks of at most 8320
bytes.  It runs ssh with the arguments of the original, and does not quote the remote command.
"""

import fcntl
import getopt
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

# The names of the original: the first word of each block, and the longest frame in bytes.
MAGIC = 0x5A69782B
MAXPKT = 8192 + 128

# linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI = 0x1002


def open_tap(spec: str, bridge: str | None) -> int:
    """Open a TAP, put it in the bridge, and bring it up; return its descriptor."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    name = b"tap%d" if spec == "auto" else Path(spec).name.encode()
    request = fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name, IFF_TAP_NO_PI))
    device = request[:16].rstrip(b"\0").decode()
    if bridge is not None:
        subprocess.run(["ip", "link", "set", device, "master", bridge], check=True)
    subprocess.run(["ip", "link", "set", device, "up"], check=True)
    return fd


def read_exactly(fd: int, count: int) -> bytes | None:
    """Read this number of bytes; None if the stream ends before."""
    data = b""
    while len(data) < count:
        part = os.read(fd, count - len(data))
        if not part:
            return None
        data += part
    return data


def from_tap(tap: int, stream: int) -> None:
    """Send each frame as a block, until the process ends."""
    while True:
        frame = os.read(tap, MAXPKT)
        os.write(stream, struct.pack("<II", MAGIC, len(frame)))
        os.write(stream, frame)


def to_tap(stream: int, tap: int) -> str:
    """Write each frame to the TAP, until the stream ends or is not v1; return which of them."""
    while True:
        header = read_exactly(stream, 8)
        if header is None:
            return "end of stream"
        magic, length = struct.unpack("<II", header)
        if magic != MAGIC or not 0 < length <= MAXPKT:
            return f"not v1: {header.hex()}"
        frame = read_exactly(stream, length)
        if frame is None:
            return "end of stream in a block"
        os.write(tap, frame)


def main() -> None:
    """Be the client, or with -S the remote half."""
    options, rest = getopt.getopt(sys.argv[1:], "b:B:r:CS")
    given = dict(options)
    tap = open_tap(rest[0], given.get("-b"))
    if "-S" in given:
        source, sink = 0, 1
    else:
        host, _, spec = rest[1].partition(":")
        bridge = ["-b", given["-B"]] if "-B" in given else []
        command = ["ssh", "-x", "-T", "-e", "none", host, "exec", "vknet", "-S", *bridge, spec]
        ssh = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert ssh.stdin is not None
        assert ssh.stdout is not None
        source, sink = ssh.stdout.fileno(), ssh.stdin.fileno()
    threading.Thread(target=from_tap, args=(tap, sink), daemon=True).start()
    print(f"peer_2008: {to_tap(source, tap)}", file=sys.stderr, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
