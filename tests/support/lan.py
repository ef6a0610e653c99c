"""A LAN that vknet makes of two bridges, and a TCP transfer across it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from testbed.hosts import eventually
from testbed.program import Program

if TYPE_CHECKING:
    from testbed.hosts import Bed, Host

# The addresses of the bridges, or of other interfaces that are joined.
LAN_HERE = "198.18.1.1"
LAN_THERE = "198.18.1.2"
LAN6_HERE = "fd00:1::1"
LAN6_THERE = "fd00:1::2"


def transfer(source: Host, sink: Host, address: str, data: bytes) -> str:
    """Send data over one TCP connection.

    Args:
        source: the host that sends.
        sink: the host that receives.
        address: an address of the sink.
        data: the bytes to send.

    Returns:
        The SHA-256 digest of the bytes that arrived, in hex.
    """
    receive = (
        "import hashlib, socket, sys; s = socket.create_server((sys.argv[1], 5001));"
        "print(flush=True); c, _ = s.accept(); h = hashlib.sha256();"
        "[h.update(d) for d in iter(lambda: c.recv(65536), b'')]; print(h.hexdigest())"
    )
    send = (
        "import socket, sys; s = socket.create_connection((sys.argv[1], 5001));"
        "s.sendfile(open(sys.argv[2], 'rb'))"
    )
    path = source.directory / "data"
    path.write_bytes(data)
    receiver = sink.start("python", "-c", receive, address, stdout=subprocess.PIPE)
    if receiver.stdout is None:
        raise AssertionError("the receiver was started with a pipe")
    receiver.stdout.readline()
    source.run("python", "-c", send, address, str(path))
    return receiver.stdout.read().decode().strip()


class Lan:
    """A bridge with addresses on both hosts, so that one can ping the other once they are joined.

    Args:
        bed: the two hosts.
        name: the name of both bridges.
        net: the third byte of the IPv4 addresses, and the second group of the IPv6 addresses.
    """

    def __init__(self, bed: Bed, name: str = "bridge0", net: int = 1) -> None:
        self.bed = bed
        self.name = name
        self.net = net
        for host, last in ((bed.here, 1), (bed.there, 2)):
            host.ip("link", "add", name, "type", "bridge")
            host.ip("link", "set", name, "up")
            host.ip("addr", "add", f"198.18.{net}.{last}/24", "dev", name)
            host.ip("addr", "add", f"fd00:{net}::{last}/64", "dev", name, "nodad")

    def vknet(self, *options: str) -> Program:
        """Start vknet between the two bridges."""
        return Program(
            self.bed.here,
            *("vknet", *options, "-b", self.name, "-B", self.name, "auto", "myhomesystem:auto"),
        )

    def carries(self, within: float = 15.0) -> None:
        """Wait until a ping is answered; `within` is in seconds."""
        eventually(self.answers, f"a ping across {self.name}", within)

    def answers(self) -> bool:
        """Whether a single ping is answered."""
        return self.bed.here.reaches(f"198.18.{self.net}.2", wait=0.5)
