"""The least that a tunnel of this shape can be: a TAP, a pipe to ssh, and one of two loops.

    python bare.py LOOP DEVICE [REMOTE COMMAND WORD ...]

With a remote command it starts ssh with it, without one it is the remote half.  LOOP is ``poll``,
for epoll in Python and nothing else, or ``trio``.  It lives as long as its peer, and checks
nothing.
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
    """Two directions between a TAP and two pipes."""

    def __init__(self, tap: int, receiving: int, sending: int) -> None:
        self.tap = tap
        self.receiving = receiving
        self.sending = sending

    def out(self) -> None:
        """Carry the one frame that is there, out of the TAP."""
        frame = os.read(self.tap, LONGEST_FRAME)
        os.write(self.sending, LENGTH.pack(len(frame)) + frame)

    def back(self) -> None:
        """Carry the frames of one read, into the TAP."""
        data = os.read(self.receiving, LONGEST_FRAME)
        if not data:
            sys.exit()
        start = 0
        while start < len(data):
            (length,) = LENGTH.unpack_from(data, start)
            start += LENGTH.size
            # Until the interface is up.
            with suppress(OSError):
                os.write(self.tap, data[start : start + length])
            start += length


def by_poll(bare: Bare) -> None:
    epoll = select.epoll()
    turns = {bare.tap: bare.out, bare.receiving: bare.back}
    for fd in turns:
        epoll.register(fd, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            turns[fd]()


def by_trio(bare: Bare) -> None:
    async def pump(fd: int, next_writes: Callable[[], None]) -> None:
        while True:
            await trio.lowlevel.wait_readable(fd)
            next_writes()

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump, bare.tap, bare.out)
            nursery.start_soon(pump, bare.receiving, bare.back)

    trio.run(both, strict_exception_groups=False)


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
            raise AssertionError("asked for as pipes")
        receiving, sending = ssh.stdout.fileno(), ssh.stdin.fileno()
    {"poll": by_poll, "trio": by_trio}[loop](Bare(tap, receiving, sending))


if __name__ == "__main__":
    main()
