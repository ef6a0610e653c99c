"""Run the contract of an endpoint over a real TAP; a program for a network namespace of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import trio

from tests.support.conformance import CHECKS, Rig
from vknet.endpoints import open_endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet import Endpoint

# The EtherType of the frames of the checks; the raw socket receives no others.
ETHERTYPE = 0x88B5


class TapRig(Rig):
    def __init__(self, endpoint: Endpoint, raw: trio.socket.SocketType) -> None:
        self.endpoint = endpoint
        self._raw = raw

    async def inject(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            await self._raw.send(frame)

    async def taken(self, count: int) -> list[bytes]:
        got: list[bytes] = []
        while len(got) < count:
            frame, address = await self._raw.recvfrom(100_000)
            # Skip the frames that this socket sent itself.
            if address[2] != socket.PACKET_OUTGOING:
                got.append(frame)
        return got

    async def destroy(self) -> None:
        await trio.run_process(["ip", "link", "del", self.endpoint.name])


async def main() -> None:
    for check in CHECKS:
        async with await open_endpoint("auto", mtu=2000) as endpoint:
            raw = trio.socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
            await raw.bind((endpoint.name, ETHERTYPE))
            with trio.fail_after(10), raw:
                await check(TapRig(endpoint, raw))
        print("passed", check.__name__)


if __name__ == "__main__":
    # The kernel must send no frames of its own on the interface.
    for scope in ("all", "default"):
        subprocess.run(["sysctl", "-qw", f"net.ipv6.conf.{scope}.disable_ipv6=1"], check=True)
    sys.exit(trio.run(main))
