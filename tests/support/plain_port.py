"""Have interfaces do without any help of a card, as the ethtool command does it.

    plain_port.py interface ...

What leaves by such an interface is whole: with its checksums, and no longer than its MTU.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import sys

# linux/sockios.h, linux/ethtool.h
SIOCETHTOOL = 0x8946
COMMANDS = {"rx": 0x15, "tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name in sys.argv[1:]:
            for command in COMMANDS.values():
                value = ctypes.create_string_buffer(struct.pack("=II", command, 0))
                request = struct.pack("16sP16x", name.encode(), ctypes.addressof(value))
                fcntl.ioctl(sock, SIOCETHTOOL, request)


if __name__ == "__main__":
    main()
