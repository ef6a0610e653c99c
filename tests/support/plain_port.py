"""Turn off all offloads of interfaces, like ``ethtool -K INTERFACE rx off tx off ...``.

    python plain_port.py INTERFACE...

Frames that leave through such an interface have their checksums, and are no longer than its MTU.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import sys

# linux/sockios.h
SIOCETHTOOL = 0x8946

# linux/ethtool.h: the command that sets each offload, such as ETHTOOL_SRXCSUM.
SET_OFFLOAD = {"rx": 0x15, "tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}


def main() -> None:
    """Turn off the offloads of the interfaces in argv."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name in sys.argv[1:]:
            for command in SET_OFFLOAD.values():
                value = ctypes.create_string_buffer(struct.pack("=II", command, 0))
                request = struct.pack("16sP16x", name.encode(), ctypes.addressof(value))
                fcntl.ioctl(sock, SIOCETHTOOL, request)


if __name__ == "__main__":
    main()
