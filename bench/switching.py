"""Frames per second through a vknet switch beside `vde_switch`, in turn, in one run.

    .venv/bin/python -m bench.switching [rounds]

Needs gcc and vde_switch (Debian: vde2), and no rights.  Prints a Markdown table of medians, and of
the ratios of what was measured one right after the other.

What is measured.  Two clients on each switch, the same C program on both (`switching_client.c`),
which gets a connected socket and knows nothing else: SOCK_SEQPACKET to vknet's switch, to vde's the
SOCK_DGRAM socket that libvdeplug would have, after its handshake.  Clients move 32 frames a system
call, so that a switch is the bottleneck and not they; their sockets have the kernel's default
buffers, as libvdeplug leaves them.

A sender floods with blocking calls: the kernel stops it while its own send buffer is full, which is
until the switch has read.  So what counts is what arrives: the frames that the receiver got within
a window of steady state.  Loss is what was sent and never arrived, from the first frame to the
last; those that a switch drops because the receiver's queue is full are in it.  CPU is the switch
process's own, user and system, within the window, per million frames delivered.  There are fewer
cores than processes here: a switch that leaves more of them to its clients is paid back in frames.

Both ways means two floods at once, and the sum of both receivers.  A round trip is one frame there
and one back with nothing else going on.  Idle is how often the switch process was scheduled in two
seconds without a frame.
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

SECONDS: Final = 1.5
WARM_UP: Final = 0.5
SIZES: Final = (64, 1500)
PINGS: Final = 5000
IDLE: Final = 2.0

CLIENT_SOURCE: Final = Path(__file__).with_name("switching_client.c")

# libvdeplug's request: magic, version, type, an address, what is behind the port.
VDE_REQUEST: Final = struct.Struct("=IIIH108s6s")
VDE_MAGIC: Final = 0xFEEDFACE
VDE_VERSION: Final = 3
VDE_NEW_CONTROL: Final = 0
SOCKET_ADDRESS: Final = struct.Struct("=H108s")

Figures = dict[str, float]


# --- the two switches -----------------------------------------------------------------------------


def start_vknet(path: Path) -> subprocess.Popen[bytes]:
    """A vknetd without a TAP that listens at `path`."""
    vknetd = Path(sys.executable).with_name("vknetd")
    return subprocess.Popen([vknetd, "-dq", "-t", "none", "-p", path])


def start_vde(path: Path) -> subprocess.Popen[bytes]:
    """`vde_switch`; its console is on stdin, at whose end it would stop."""
    return subprocess.Popen(
        ["vde_switch", "-s", path], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )


@contextmanager
def vknet_client(path: Path, number: int) -> Iterator[socket.socket]:
    """A client's socket."""
    del number
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(path))
        yield sock


@contextmanager
def vde_client(path: Path, number: int) -> Iterator[socket.socket]:
    """A client's data socket, as libvdeplug opens it; the port lasts as long as the other one."""
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
    """What the process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def times_scheduled(pid: int) -> int:
    """How often the process has got a CPU."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[2])


class Bench:
    """A switch and two clients' sockets.

    Args:
        client: the compiled client.
        switch: the switch's process.
        sockets: connected, one a client.
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
        """Have the switch learn both addresses."""
        for number, sock in enumerate(self.sockets):
            hello = b"\xff" * 6 + bytes((2, 0, 0, 0, 0, number)) + b"\x88\xb5" + bytes(46)
            sock.send(hello)
            self.sockets[1 - number].recv(2048)

    def flood(self, size: int, ways: tuple[tuple[int, int], ...]) -> Figures:
        """Floods at once, each from one client to another."""
        since = time.monotonic() + WARM_UP
        until = since + SECONDS
        receivers = [self._start("count", to, since, until) for _, to in ways]
        senders = [self._start("flood", way[0], size, *way, since, until) for way in ways]
        time.sleep(max(0, since - time.monotonic()))
        before = cpu_seconds(self.switch.pid)
        time.sleep(max(0, until - time.monotonic()))
        cpu = cpu_seconds(self.switch.pid) - before
        sent, _ = totals(senders)
        received, within = totals(receivers)
        return {
            "1000 frames/s": within / SECONDS / 1000,
            "lost, %": (1 - received / sent) * 100,
            "CPU s per million": cpu / within * 1e6,
        }

    def round_trip(self) -> Figures:
        """One frame there and one back, many times."""
        pong = self._start("pong", 1)
        ping = self._start("ping", 0, SIZES[0], 0, 1, PINGS)
        output, _ = ping.communicate(timeout=60)
        pong.kill()
        pong.communicate()
        return {"round trip, us": statistics.median(map(int, output.split())) / 1000}

    def idle(self) -> Figures:
        """Nothing at all."""
        before = times_scheduled(self.switch.pid)
        time.sleep(IDLE)
        return {"times scheduled": times_scheduled(self.switch.pid) - before}


def totals(processes: list[subprocess.Popen[bytes]]) -> tuple[int, int]:
    """The sums of what flood or count printed: in all, and within the window."""
    printed = [process.communicate(timeout=60)[0].split() for process in processes]
    return sum(int(line[0]) for line in printed), sum(int(line[1]) for line in printed)


CASES: Final = {
    f"{size} bytes {name}": partial(Bench.flood, size=size, ways=ways)
    for size in SIZES
    for name, ways in {"->": ((0, 1),), "<->": ((0, 1), (1, 0))}.items()
} | {"64 bytes, one at a time": Bench.round_trip, "nothing": Bench.idle}


@contextmanager
def running(tool: str, client: Path) -> Iterator[Bench]:
    """Start a switch, connect two clients, stop it."""
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
            sys.exit(f"bench.switching needs {program}")
    rounds = rounds_from("bench.switching", __doc__, 3)
    results: dict[str, dict[tuple[str, str], list[float]]] = {name: {} for name in TOOLS}
    with ExitStack() as stack:
        client = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "client"
        subprocess.run(["gcc", "-O2", "-Wall", "-o", client, CLIENT_SOURCE], check=True)
        benches = {name: stack.enter_context(running(name, client)) for name in TOOLS}
        for number in range(rounds):
            # Neither is always the first.
            turns = list(benches.items())[:: -1 if number % 2 else 1]
            for case, measure in CASES.items():
                for name, bench in turns:
                    for figure, value in measure(bench).items():
                        results[name].setdefault((case, figure), []).append(value)
    print(f"| median of {rounds} | | {' | '.join(TOOLS)} | ratio, median (least to most) |")
    print("|---|---|---|---|---|")
    ours, theirs = results.values()
    for case, figure in ours:
        pairs = list(zip(ours[case, figure], theirs[case, figure], strict=True))
        medians = " | ".join(f"{statistics.median(one):.2f}" for one in zip(*pairs, strict=True))
        ratios = [our / their for our, their in pairs if their and not figure.startswith("lost")]
        print(f"| {case} | {figure} | {medians} | {spread(ratios)} |")


def spread(values: list[float]) -> str:
    """The median of all, the least and the most."""
    if not values:
        return ""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
