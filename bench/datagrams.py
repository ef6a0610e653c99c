"""UDP datagrams at a constant rate, and the rate at which they arrive.

    python datagrams.py send ADDRESS SECONDS RATE [SIZE]
    python datagrams.py receive ADDRESS SECONDS [WARM_UP_S]

RATE is in datagrams per second.  SIZE is the payload in bytes, 64 by default.

Only the datagrams cross the path.  A program that has a control connection on the same path, such
as iperf3, sometimes loses it when the path is flooded.

Both sides move many datagrams per system call, to leave the CPUs to the tunnel under test.  The
receiver has a large buffer, to lose none that the tunnel has delivered.
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

__all__ = ["PORT", "WARM_UP_S", "receive", "send"]

PORT: Final = 5202
PAYLOAD_BYTES: Final = 64

# The time from the first datagram to the first that counts, in which the queues on the path fill.
WARM_UP_S: Final = 0.5

# The time limit for the first datagram.  A path that takes longer has failed.
FIRST_TIMEOUT_S: Final = 5.0

# The number of datagrams between two readings of the clock.
TURN_DATAGRAMS: Final = 256

# include/uapi/asm-generic/socket.h.  The default buffer holds 277 small datagrams: a millisecond.
SO_RCVBUFFORCE: Final = 33
RECEIVE_BUFFER_BYTES: Final = 16 * 1024 * 1024

# The time between two bursts of the sender: 50 datagrams per burst at 50 000 per second.
BURST_INTERVAL_S: Final = 0.001


def send(address: str, seconds: float, rate: float, size: float = PAYLOAD_BYTES) -> int:
    """Offer datagrams to the kernel, which may have no room for some; return how many.

    Args:
        address: of the receiver.
        seconds: how long to send.
        rate: in datagrams per second.
        size: of the payload, in bytes.
    """
    count = 0
    chunk = [bytes(int(size))] * CHUNK
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, PORT))
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            due = min(int(passed * rate) - count, TURN_DATAGRAMS)
            left = due
            try:
                while left > 0:
                    left -= send_messages(sock.fileno(), chunk[:left])
            except BlockingIOError:
                select.select([], [sock], [], BURST_INTERVAL_S)
            except OSError:
                # ENOBUFS: the interface has no room.  ECONNREFUSED: the receiver has ended.
                pass
            count += due
            if due < TURN_DATAGRAMS:
                time.sleep(BURST_INTERVAL_S)
    return count


def receive(address: str, seconds: float, warm_up: float = WARM_UP_S) -> float:
    """Return the rate at which datagrams arrive, per second.

    Args:
        address: of this side.
        seconds: how long to count.
        warm_up: seconds from the first datagram to the begin of the count.

    Returns:
        0 if no datagram arrives within `FIRST_TIMEOUT_S`.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        sock.bind((address, PORT))
        print("ready", flush=True)
        sock.settimeout(FIRST_TIMEOUT_S)
        try:
            sock.recv(1)
        except TimeoutError:
            return 0
        start = time.monotonic() + warm_up
        _count(sock, start)
        count = _count(sock, start + seconds)
    return count / seconds


def _count(sock: socket.socket, until: float) -> int:
    """Receive datagrams until a time; return their number."""
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
