"""TCP flows that send as much as they can, and how much of each arrives.

    python flows.py send ADDRESS PORT FLOWS
    python flows.py receive ADDRESS PORT FLOWS WARM_UP SECONDS

Nothing but the flows crosses the path.  The receiver prints ``ready``, and at its end the bytes of
each flow in the SECONDS that begin WARM_UP after the first connection, as a JSON array.  The sender
sends until it is ended or its flows are.
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

# What Linux has unless somebody changed it.
CONGESTION_CONTROL: Final = "cubic"
BLOCK: Final = bytes(256 * 1024)

# How long the first flow may take to come.
PATIENCE: Final = 30.0


def send(address: str, port: int, flows: int) -> None:
    """Send on so many connections until the other side closes them."""

    def one() -> None:
        with suppress(OSError), socket.socket() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL.encode())
            sock.connect((address, port))
            while True:
                sock.sendall(BLOCK)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(flows)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def receive(address: str, port: int, flows: int, warm_up: float, seconds: float) -> list[int]:
    """Bytes of each flow in those seconds; 0 for one that never came."""
    buffer = bytearray(1024 * 1024)
    counts: dict[socket.socket, int] = {}
    with (
        selectors.DefaultSelector() as selector,
        socket.create_server((address, port), backlog=flows) as server,
    ):
        selector.register(server, selectors.EVENT_READ)
        print("ready", flush=True)
        start, end = 0.0, time.monotonic() + PATIENCE
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
