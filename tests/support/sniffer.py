"""Print in hex each frame that an interface takes in: of a TAP, what its program sent.

    python sniffer.py INTERFACE

It says "listening" first.
"""

from __future__ import annotations

import socket
import struct
import sys

# linux/if_ether.h, linux/if_packet.h
ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_AUXDATA = 8
TP_STATUS_VLAN_VALID = 1 << 4
AUXDATA = struct.Struct("IIIHHHH")


def main() -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as sock:
        sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        sock.bind((sys.argv[1], ETH_P_ALL))
        print("listening", flush=True)
        while True:
            frame, notes, _, (_, _, kind, *_) = sock.recvmsg(70000, 256)
            status, _, _, _, _, tci, tpid = AUXDATA.unpack(notes[0][2])
            if status & TP_STATUS_VLAN_VALID:
                # The kernel has taken the tag out of the frame.
                frame = frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
            if kind != socket.PACKET_OUTGOING:
                print(frame.hex(), flush=True)


main()
