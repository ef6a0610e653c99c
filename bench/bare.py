"""The smallest possible tunnel with vknet's structure: a TAP, pipes to ssh, and a loop.

    python bare.py LOOP DEVICE [REMOTE_COMMAND_WORD ...]

LOOP is ``poll``, which is epoll in Python and nothing else, or ``trio``.  With a remote command the
program starts ssh; without one it is the remote half.  It ends with its peer, and checks nothing.
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from vknet.endpoints import tun
from vknet.packet.virtio import NO_OFFLOADS

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTH: Final = struct.Struct("<I")
LONGEST_FRAME: Final = 65536
BARE_SSH: Final = ("ssh", "-x", "-T", "-e", "none", "there")


class Bare:
    """Copies frames in both directions between a TAP and two pipes.

    Args:
        tap: fd of the TAP.
        receiving: fd to read from the peer.
        sending: fd to write to the peer.
    """

    def __init__(self, tap: int, receiving: int, sending: int) -> None:
        self.tap = tap
        self.receiving = receiving
        self.sending = sending

    def send_one(self) -> None:
        """Copy one frame from the TAP to the peer."""
        frame = os.read(self.tap, LONGEST_FRAME)
        os.write(self.sending, LENGTH.pack(len(frame)) + frame)

    def receive_some(self) -> None:
        """Copy the frames of one read from the peer to the TAP."""
        data = os.read(self.receiving, LONGEST_FRAME)
        if not data:
            sys.exit()
        start = 0
        while start < len(data):
            (length,) = LENGTH.unpack_from(data, start)
            start += LENGTH.size
            # The kernel refuses frames until the interface is up.
            with suppress(OSError):
                os.write(self.tap, data[start : start + length])
            start += length


def by_poll(bare: Bare) -> None:
    epoll = select.epoll()
    handlers = {bare.tap: bare.send_one, bare.receiving: bare.receive_some}
    for fd in handlers:
        epoll.register(fd, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            handlers[fd]()


def by_trio(bare: Bare) -> None:
    async def pump(fd: int, copy: Callable[[], None]) -> None:
        while True:
            await trio.lowlevel.wait_readable(fd)
            copy()

    async def pump_both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump, bare.tap, bare.send_one)
            nursery.start_soon(pump, bare.receiving, bare.receive_some)

    trio.run(pump_both, strict_exception_groups=False)


def main() -> None:
    loop, device, *remote = sys.argv[1:]
    tap = tun.open_device()
    tun.set_interface(tap, device)
    tun.set_offloads(tap, NO_OFFLOADS)
    receiving, sending = 0, 1
    if remote:
        command = (*BARE_SSH, " ".join(remote))
        ssh = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if ssh.stdin is None or ssh.stdout is None:
            raise AssertionError("stdin and stdout are pipes")
        receiving, sending = ssh.stdout.fileno(), ssh.stdin.fileno()
    {"poll": by_poll, "trio": by_trio}[loop](Bare(tap, receiving, sending))


if __name__ == "__main__":
    main()
