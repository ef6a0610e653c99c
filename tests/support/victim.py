"""A station that prints what its kernel delivers to programs, one line each, until it is killed.

python victim.py INTERFACE
"""

import select
import socket
import sys

UDP_PORTS = (67, 520, 9999)
PROTOCOLS = (47, 88, 89, 103, 112)
ETH_P_802_2 = 4


def main() -> None:
    sources = {}
    for port in UDP_PORTS:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("", port))
        sources[sock] = f"udp {port}"
    relay = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    relay.bind(("::", 547))
    sources[relay] = "udp6 547"
    for number in PROTOCOLS:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, number)
        sources[sock] = f"protocol {number}"
    igmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    sources[igmp] = "igmp"
    icmp6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
    sources[icmp6] = "icmp6"
    bpdus = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_802_2))
    bpdus.bind((sys.argv[1], ETH_P_802_2))
    sources[bpdus] = "spanning tree"
    print("listening", flush=True)
    while True:
        for sock in select.select(list(sources), [], [])[0]:
            data, sender = sock.recvfrom(4096)
            line = sources[sock]
            if sock is igmp:
                line += f" {data[4 * (data[0] & 15)]}"
            elif sock is icmp6:
                line += f" {data[0]} {data[4]:02x}"
            elif sock is relay:
                line += f" {data[0]}"
            elif line == "udp 67":
                line += f" from {sender[1]}"
            elif line == "udp 9999":
                line += f" {data.decode(errors='replace')}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
