"""TCP throughput and idle round trip of vknet beside `ssh -w`, in turn, in one run.

    sudo .venv/bin/python -m bench.throughput [rounds]

Needs iperf3.  Prints a Markdown table of medians and the ratio.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import sys
from typing import TYPE_CHECKING, Final

from testbed.hosts import eventually, two_hosts
from testbed.program import Program

if TYPE_CHECKING:
    from testbed.hosts import Bed

SECONDS: Final = 5
ADDRESSES: Final = ("198.18.2.1", "198.18.2.2")


def start_vknet(bed: Bed) -> Program:
    """`vknet`, with a TAP on each side."""
    program = Program(bed.here, "vknet", "tap:bench0", "there:tap:bench0")
    program.says("link up")
    return program


def start_ssh_w(bed: Bed) -> Program:
    """`ssh -w`, in Ethernet mode, with OpenSSH's own choice of everything."""
    program = Program(bed.here, "ssh", "-NT", "-o", "Tunnel=ethernet", "-w", "0:0", "there")
    eventually(lambda: "tap0" in bed.here.interfaces(), "ssh's TAP here")
    eventually(lambda: "tap0" in bed.there.interfaces(), "ssh's TAP there")
    for host in (bed.here, bed.there):
        host.ip("link", "set", "tap0", "name", "bench0")
    return program


def measure(bed: Bed) -> dict[str, float]:
    """What one tunnel does, once it has addresses."""
    for host, address in zip((bed.here, bed.there), ADDRESSES, strict=True):
        host.ip("addr", "add", f"{address}/24", "dev", "bench0")
        host.ip("link", "set", "bench0", "up")
    eventually(lambda: bed.here.reaches(ADDRESSES[1]), "a ping across")
    pinged = bed.here.output("ping", "-n", "-c200", "-i0.01", "-q", ADDRESSES[1])
    round_trip = re.search(r"= [\d.]+/([\d.]+)/", pinged)
    server = bed.there.start("iperf3", "-s")
    eventually(lambda: "5201" in bed.there.output("ss", "-Hltn"), "iperf3 listening")
    figures = {"RTT, idle, ms": float(round_trip[1]) if round_trip else float("nan")}
    for name, option in (("TCP ->, Mbit/s", []), ("TCP <-, Mbit/s", ["-R"])):
        client = ["iperf3", "-c", ADDRESSES[1], "-t", str(SECONDS), "-J", *option]
        report = json.loads(bed.here.output(*client))
        figures[name] = report["end"]["sum_received"]["bits_per_second"] / 1e6
    server.kill()
    return figures


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    tools = {"vknet": start_vknet, "ssh -w": start_ssh_w}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in tools}
    with two_hosts() as bed:
        bed.stop_sshd()
        bed.start_sshd("PermitTunnel yes")
        for _ in range(rounds):
            for name, start in tools.items():
                program = start(bed)
                results[name].append(measure(bed))
                program.process.terminate()
                program.status()
                for pid in bed.there.processes("iperf3"):
                    os.kill(pid, signal.SIGKILL)
                eventually(
                    lambda: "bench0" not in bed.here.interfaces() + bed.there.interfaces(),
                    "the TAPs gone",
                )
    print(f"| median of {rounds} | {' | '.join(tools)} | ratio |\n|---|---|---|---|")
    for figure in results["vknet"][0]:
        medians = [statistics.median(r[figure] for r in results[name]) for name in tools]
        row = " | ".join(f"{median:.2f}" for median in medians)
        print(f"| {figure} | {row} | {medians[0] / medians[1]:.2f} |")


if __name__ == "__main__":
    main()
