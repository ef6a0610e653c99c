"""TCP flows that send as fast as they can, and the bytes of each that arrive.

    python flows.py send ADDRESS PORT FLOWS
    python flows.py receive ADDRESS PORT FLOWS WARM_UP_S SECONDS

Only the flows cross the path.  The receiver prints ``ready`` when it listens.  It counts for
SECONDS, beginning WARM_UP_S after the first connection, and prints the bytes of each flow as a JSON
array.  The sender runs until it is killed, or until the receiver closes the flows.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Final

__all__ = ["CONGESTION_CONTROL", "receive", "send"]

# The default of Linux.
CONGESTION_CONTROL: Final = "cubic"
BLOCK: Final = bytes(256 * 1024)

# The time limit for the first flow.
FIRST_TIMEOUT_S: Final = 30.0


def send(address: str, port: int, flows: int) -> None:
    """Open `flows` connections, and send on each until the receiver closes it."""

    def send_on_one() -> None:
        with suppress(OSError), socket.socket() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL.encode())
            sock.connect((address, port))
            while True:
                sock.sendall(BLOCK)

    threads = [threading.Thread(target=send_on_one, daemon=True) for _ in range(flows)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def receive(address: str, port: int, flows: int, warm_up: float, seconds: float) -> list[int]:
    """Receive from all flows; return the bytes of each, 0 for a flow that never came.

    Args:
        address: of this side.
        port: to listen on.
        flows: their number.
        warm_up: seconds from the first connection to the begin of the count.
        seconds: how long to count.
    """
    buffer = bytearray(1024 * 1024)
    counts: dict[socket.socket, int] = {}
    with (
        selectors.DefaultSelector() as selector,
        socket.create_server((address, port), backlog=flows) as server,
    ):
        selector.register(server, selectors.EVENT_READ)
        print("ready", flush=True)
        start, end = 0.0, time.monotonic() + FIRST_TIMEOUT_S
        while (now := time.monotonic()) < end:
            for key, _ in selector.select(end - now):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is server:
                    flow = server.accept()[0]
                    if not counts:
                        start = time.monotonic() + warm_up
                        end = start + seconds
                    counts[flow] = 0
                    selector.register(flow, selectors.EVENT_READ)
                    continue
                size = ready.recv_into(buffer)
                if time.monotonic() >= start:
                    counts[ready] += size
                if not size:
                    selector.unregister(ready)
        for flow in counts:
            flow.close()
    return [*counts.values(), *[0] * (flows - len(counts))]


def main() -> None:
    role, address, port, flows, *times = sys.argv[1:]
    if role == "send":
        send(address, int(port), int(flows))
    else:
        counts = receive(address, int(port), int(flows), *map(float, times))
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
