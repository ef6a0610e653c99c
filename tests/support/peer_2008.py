#!/usr/bin/env python3
"""The program of 2008, as far as the other side can tell: blocks of wire v1 and nothing else.

    peer_2008.py [-C] [-b bridge] [-B bridge] [-r delay] local-spec host[:remote-spec]
    peer_2008.py -S [-b bridge] local-spec

Its manners are those of the original: options as getopt(3) takes them, -B parsed in every mode and
ignored with -S, a peer that sends anything but a v1 block of at most 8320 bytes is hung up on, and
ssh is run with the arguments and the unquoted remote command of that time.
"""

import fcntl
import getopt
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

MAGIC = 0x5A69782B
MAXPKT = 8192 + 128


def open_tap(spec: str, bridge: str | None) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR)
    name = b"tap%d" if spec == "auto" else Path(spec).name.encode()
    request = fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name, 0x1002))
    device = request[:16].rstrip(b"\0").decode()
    if bridge is not None:
        subprocess.run(["ip", "link", "set", device, "master", bridge], check=True)
    subprocess.run(["ip", "link", "set", device, "up"], check=True)
    return fd


def read_exactly(fd: int, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        part = os.read(fd, count - len(data))
        if not part:
            return None
        data += part
    return data


def from_tap(tap: int, stream: int) -> None:
    while True:
        frame = os.read(tap, MAXPKT)
        os.write(stream, struct.pack("<II", MAGIC, len(frame)))
        os.write(stream, frame)


def to_tap(stream: int, tap: int) -> str:
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
