"""Frames per second through vknetd beside `vde_switch`, in turn, in one run.

    .venv/bin/python -m bench.switching [rounds]

It needs gcc and vde_switch (Debian: vde2), but not root.  The output is a Markdown table of
medians, and of the ratios of tests that followed each other directly.

Two clients are connected to each switch.  All are the same C program (`switching_client.c`), which
gets a connected socket: SOCK_SEQPACKET to vknetd, and to vde_switch the SOCK_DGRAM socket that
libvdeplug would have after its handshake.  A client moves 32 frames per system call, so the switch
is the bottleneck.  The sockets have the default buffers of the kernel, as with libvdeplug.

* Frames/s: the frames that the receiver gets within an interval of steady state.  The sender floods
  with blocking calls; the kernel stops it while its send buffer is full, until the switch has read.
* Lost: the share of all sent frames that never arrive.  It includes frames that a switch drops
  because the receiver's queue is full.
* CPU: user and system time of the switch process within the interval, per million frames delivered.
  On a machine with fewer CPUs than processes, CPU time that the switch saves goes to the clients.
* Both ways (<->): two floods at the same time, and the sum of both receivers.
* Round trip: one frame there and one back, with no other traffic.
* Nothing: how often the switch process is scheduled in two seconds without a frame.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.rounds import rounds_from
from testbed.hosts import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOOD_S: Final = 1.5
WARM_UP_S: Final = 0.5
FRAME_SIZES: Final = (64, 1500)
PINGS: Final = 5000
IDLE_S: Final = 2.0

CLIENT_SOURCE: Final = Path(__file__).with_name("switching_client.c")

# The request of libvdeplug: magic, version, type, address, description of the port.
VDE_REQUEST: Final = struct.Struct("=IIIH108s6s")
VDE_MAGIC: Final = 0xFEEDFACE
VDE_VERSION: Final = 3
VDE_NEW_CONTROL: Final = 0
SOCKET_ADDRESS: Final = struct.Struct("=H108s")

Figures = dict[str, float]


# --- the two switches -----------------------------------------------------------------------------


def start_vknet(path: Path) -> subprocess.Popen[bytes]:
    """Start a vknetd without an uplink that listens on `path`."""
    vknetd = Path(sys.executable).with_name("vknetd")
    return subprocess.Popen([vknetd, "-dq", "-t", "none", "-p", path])


def start_vde(path: Path) -> subprocess.Popen[bytes]:
    """Start vde_switch.  stdin is its console; it would stop at the end of it."""
    return subprocess.Popen(
        ["vde_switch", "-s", path], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )


@contextmanager
def vknet_client(path: Path, number: int) -> Iterator[socket.socket]:
    """Yield the socket of a client."""
    del number
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(path))
        yield sock


@contextmanager
def vde_client(path: Path, number: int) -> Iterator[socket.socket]:
    """Yield the data socket of a client, as libvdeplug opens it.

    The port lasts as long as the control socket.
    """
    own = path.with_name(f"client-{number}")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as data,
    ):
        control.connect(str(path / "ctl"))
        data.bind(str(own))
        address = (socket.AF_UNIX, bytes(own))
        control.sendall(
            VDE_REQUEST.pack(VDE_MAGIC, VDE_VERSION, VDE_NEW_CONTROL, *address, b"bench")
        )
        _, there = SOCKET_ADDRESS.unpack(control.recv(SOCKET_ADDRESS.size, socket.MSG_WAITALL))
        data.connect(there.rstrip(b"\0"))
        yield data
    own.unlink()


TOOLS: Final = {
    "vknet": (start_vknet, vknet_client, lambda path: path.is_socket()),
    "vde_switch": (start_vde, vde_client, lambda path: (path / "ctl").is_socket()),
}


# --- measuring ------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def times_scheduled(pid: int) -> int:
    """Return how often a process was scheduled."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[2])


class Bench:
    """A switch, and the sockets of two clients.

    Args:
        client: the compiled client.
        switch: the process of the switch.
        sockets: connected, one per client.
    """

    def __init__(
        self, client: Path, switch: subprocess.Popen[bytes], sockets: list[socket.socket]
    ) -> None:
        self.client = client
        self.switch = switch
        self.sockets = sockets

    def _start(self, mode: str, number: int, *arguments: object) -> subprocess.Popen[bytes]:
        fd = self.sockets[number].fileno()
        command = [str(self.client), mode, str(fd), *map(str, arguments)]
        return subprocess.Popen(command, pass_fds=[fd], stdout=subprocess.PIPE)

    def introduce(self) -> None:
        """Send one frame from each client, so that the switch learns both addresses."""
        for number, sock in enumerate(self.sockets):
            hello = b"\xff" * 6 + bytes((2, 0, 0, 0, 0, number)) + b"\x88\xb5" + bytes(46)
            sock.send(hello)
            self.sockets[1 - number].recv(2048)

    def flood(self, size: int, ways: tuple[tuple[int, int], ...]) -> Figures:
        """Run floods at the same time, each from one client to another."""
        since = time.monotonic() + WARM_UP_S
        until = since + FLOOD_S
        receivers = [self._start("count", to, since, until) for _, to in ways]
        senders = [self._start("flood", way[0], size, *way, since, until) for way in ways]
        time.sleep(max(0, since - time.monotonic()))
        before = cpu_seconds(self.switch.pid)
        time.sleep(max(0, until - time.monotonic()))
        cpu = cpu_seconds(self.switch.pid) - before
        sent, _ = totals(senders)
        received, within = totals(receivers)
        return {
            "1000 frames/s": within / FLOOD_S / 1000,
            "lost, %": (1 - received / sent) * 100,
            "CPU s per million": cpu / within * 1e6,
        }

    def round_trip(self) -> Figures:
        """Send one frame there and one back, many times."""
        pong = self._start("pong", 1)
        ping = self._start("ping", 0, FRAME_SIZES[0], 0, 1, PINGS)
        output, _ = ping.communicate(timeout=60)
        pong.kill()
        pong.communicate()
        return {"round trip, us": statistics.median(map(int, output.split())) / 1000}

    def idle(self) -> Figures:
        """Send nothing."""
        before = times_scheduled(self.switch.pid)
        time.sleep(IDLE_S)
        return {"times scheduled": times_scheduled(self.switch.pid) - before}


def totals(processes: list[subprocess.Popen[bytes]]) -> tuple[int, int]:
    """Return what flood or count printed, added up: all frames, and those in the interval."""
    printed = [process.communicate(timeout=60)[0].split() for process in processes]
    return sum(int(line[0]) for line in printed), sum(int(line[1]) for line in printed)


CASES: Final = {
    f"{size} bytes {name}": partial(Bench.flood, size=size, ways=ways)
    for size in FRAME_SIZES
    for name, ways in {"->": ((0, 1),), "<->": ((0, 1), (1, 0))}.items()
} | {"64 bytes, one at a time": Bench.round_trip, "nothing": Bench.idle}


@contextmanager
def running(tool: str, client: Path) -> Iterator[Bench]:
    """Start a switch and connect two clients; stop it at the end."""
    start, connect, ready = TOOLS[tool]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = directory / "switch"
        switch = start(path)
        stack.callback(switch.communicate, timeout=10)
        stack.callback(switch.kill)
        eventually(partial(ready, path), f"{tool} listening")
        bench = Bench(
            client, switch, [stack.enter_context(connect(path, number)) for number in range(2)]
        )
        bench.introduce()
        yield bench


def main() -> None:
    for program in ("gcc", "vde_switch"):
        if shutil.which(program) is None:
            sys.exit(f"bench.switching needs {program}; install gcc and vde2")
    rounds = rounds_from("bench.switching", __doc__, 3)
    results: dict[str, dict[tuple[str, str], list[float]]] = {name: {} for name in TOOLS}
    with ExitStack() as stack:
        client = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "client"
        subprocess.run(["gcc", "-O2", "-Wall", "-o", client, CLIENT_SOURCE], check=True)
        benches = {name: stack.enter_context(running(name, client)) for name in TOOLS}
        for number in range(rounds):
            # The order alternates from round to round.
            turns = list(benches.items())[:: -1 if number % 2 else 1]
            for case, measure in CASES.items():
                for name, bench in turns:
                    for figure, value in measure(bench).items():
                        results[name].setdefault((case, figure), []).append(value)
    print(f"| median of {rounds} | | {' | '.join(TOOLS)} | ratio, median (minimum to maximum) |")
    print("|---|---|---|---|---|")
    ours, theirs = results.values()
    for case, figure in ours:
        pairs = list(zip(ours[case, figure], theirs[case, figure], strict=True))
        medians = " | ".join(f"{statistics.median(one):.2f}" for one in zip(*pairs, strict=True))
        ratios = [our / their for our, their in pairs if their and not figure.startswith("lost")]
        print(f"| {case} | {figure} | {medians} | {spread(ratios)} |")


def spread(values: list[float]) -> str:
    """Return the median, the minimum and the maximum."""
    if not values:
        return ""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
