"""The time that a link takes to heal, by failure.

    sudo .venv/bin/python -m bench.healing

The output is a Markdown table: the seconds from the failure (if it ends by itself: from its end)
until vknet reports the loss, and until the first ping crosses the link again.  vknet runs with
``-r 1`` and its default ``--timeout``.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from testbed.hosts import eventually, two_hosts
from testbed.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.hosts import Bed

LAN = ("198.18.2.1", "198.18.2.2")


def kill_ssh(bed: Bed) -> None:
    os.kill(bed.here.processes("-x -T -e none")[0], signal.SIGKILL)


def kill_remote_half(bed: Bed) -> None:
    os.kill(bed.there.processes("vknet -S")[0], signal.SIGKILL)


def restart_sshd(bed: Bed) -> None:
    bed.stop_sshd()
    bed.start_sshd()


def stop_remote_half(bed: Bed) -> None:
    os.kill(bed.there.processes("vknet -S")[0], signal.SIGSTOP)


def black_hole(seconds: float) -> Callable[[Bed], None]:
    """Return a failure: the path drops every frame for a time."""

    def fail(bed: Bed) -> None:
        bed.black_hole(on=True)
        time.sleep(seconds)
        bed.black_hole(on=False)

    return fail


def measure(bed: Bed, vknet: Program, fail: Callable[[Bed], None]) -> tuple[float, float]:
    """Return the seconds from the end of `fail` to the report of the loss and to the first ping."""
    lost = vknet.log.count("link lost")
    fail(bed)
    began = time.monotonic()
    vknet.says("link lost", times=lost + 1)
    reported = time.monotonic() - began
    eventually(lambda: bed.here.reaches(LAN[1]), "a ping", every=0)
    return reported, time.monotonic() - began


def main() -> None:
    failures = {
        "ssh killed": kill_ssh,
        "remote half killed": kill_remote_half,
        "sshd killed and restarted": restart_sshd,
        "remote half stopped (SIGSTOP)": stop_remote_half,
        **{f"path drops every frame for {n} s": black_hole(n) for n in (20, 22, 24, 26, 60)},
    }
    print("| failure | loss reported after, s | first ping after, s |\n|---|---|---|")
    with two_hosts() as bed:
        for host, address in zip((bed.here, bed.there), LAN, strict=True):
            host.ip("link", "add", "bridge0", "type", "bridge")
            host.ip("link", "set", "bridge0", "up")
            host.ip("addr", "add", f"{address}/24", "dev", "bridge0")
        vknet = Program(
            bed.here, *("vknet", "-r", "1", "-b", "bridge0", "-B", "bridge0", "auto", "there:auto")
        )
        vknet.says("link up")
        for name, fail in failures.items():
            reported, healed = measure(bed, vknet, fail)
            print(f"| {name} | {reported:.2f} | {healed:.2f} |", flush=True)


if __name__ == "__main__":
    main()
