"""UDP datagrams at a steady rate, and how many of them arrive.

    python datagrams.py send ADDRESS SECONDS RATE [SIZE]
    python datagrams.py receive ADDRESS SECONDS [WARM_UP]

SIZE is that of their payload in bytes, 64 unless given.

Nothing but the datagrams crosses the path: a program with a control connection of its own on the
same path, such as iperf3, loses it now and then when the path is flooded.

Both sides move many a system call, and the receiver has a long buffer: neither is to take the
processors from what is measured, or to lose what that has delivered.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from typing import TYPE_CHECKING, Final

from vknet.endpoints.mmsg import CHUNK, receive_messages, send_messages

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PORT", "WARM_UP", "receive", "send"]

PORT: Final = 5202
SIZE: Final = 64

# From the first datagram to the first one that counts: queues on the way are full then.
WARM_UP: Final = 0.5

# How long the first one may take; a path that takes longer has broken down.
PATIENCE: Final = 5.0

# Between two looks at the clock.
TURN: Final = 256

# linux/socket.h.  The default holds 277 small datagrams, a millisecond of what is sent here.
SO_RCVBUFFORCE: Final = 33
RECEIVE_BUFFER: Final = 16 * 1024 * 1024

# From one burst of the sender to the next, in seconds: 50 datagrams at 50 000 a second.
BURST_EVERY: Final = 0.001


def send(address: str, seconds: float, rate: float, size: float = SIZE) -> int:
    """Offer so many a second to the kernel, which may not have room for all; how many they were."""
    count = 0
    chunk = [bytes(int(size))] * CHUNK
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, PORT))
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            due = min(int(passed * rate) - count, TURN)
            left = due
            try:
                while left > 0:
                    left -= send_messages(sock.fileno(), chunk[:left])
            except BlockingIOError:
                select.select([], [sock], [], BURST_EVERY)
            except OSError:
                # ENOBUFS: the interface is full.  ECONNREFUSED: nobody listens there any more.
                pass
            count += due
            if due < TURN:
                time.sleep(BURST_EVERY)
    return count


def receive(address: str, seconds: float, warm_up: float = WARM_UP) -> float:
    """Datagrams that arrive each second, from `warm_up` seconds after the first one on.

    It is none where the first one does not come within `PATIENCE`.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        sock.bind((address, PORT))
        print("ready", flush=True)
        sock.settimeout(PATIENCE)
        try:
            sock.recv(1)
        except TimeoutError:
            return 0
        start = time.monotonic() + warm_up
        _drain(sock, start)
        count = _drain(sock, start + seconds)
    return count / seconds


def _drain(sock: socket.socket, until: float) -> int:
    """Count what comes until then."""
    count = 0
    while (now := time.monotonic()) < until:
        try:
            messages, _ = receive_messages(sock.fileno(), CHUNK)
            count += len(messages)
        except BlockingIOError:
            select.select([sock], [], [], until - now)
    return count


def main() -> None:
    role, address, *numbers = sys.argv[1:]
    work: Callable[..., float] = send if role == "send" else receive
    print(work(address, *map(float, numbers)), flush=True)


if __name__ == "__main__":
    main()
