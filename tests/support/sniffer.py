"""Print in hex each frame that an interface receives; for a TAP, the frames that its program wrote.

    python sniffer.py INTERFACE

The first line is "listening".
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
"""struct tpacket_auxdata."""


def main() -> None:
    """Print frames until killed."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as sock:
        sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        sock.bind((sys.argv[1], ETH_P_ALL))
        print("listening", flush=True)
        while True:
            frame, ancillary, _, (_, _, packet_type, *_) = sock.recvmsg(70_000, 256)
            status, _, _, _, _, tci, tpid = AUXDATA.unpack(ancillary[0][2])
            if status & TP_STATUS_VLAN_VALID:
                # The kernel has moved the tag from the frame to the ancillary data, packet(7).
                frame = frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
            if packet_type != socket.PACKET_OUTGOING:
                print(frame.hex(), flush=True)


main()
