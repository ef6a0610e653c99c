"""Join two hosts with a real sshd and two bridges; kill ssh, and watch the link heal."""

from __future__ import annotations

import os
import re
import shlex
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

from testbed.hosts import eventually, two_hosts
from testbed.program import Program

if TYPE_CHECKING:
    from testbed.hosts import Bed, Host

LAN_HERE: Final = "198.18.1.1"
LAN_THERE: Final = "198.18.1.2"
COMMAND: Final = "vknet -r 1 -b bridge0 -B bridge0 auto myhomesystem:auto"


def say(text: str) -> None:
    print(text, flush=True)


def shell(host: Host, command: str) -> str:
    """Run a command on a host, and show the command line."""
    say(f"  {host.name}# {command}")
    return host.output(*shlex.split(command))


def show_log(program: Program) -> threading.Event:
    """Show each line that a program writes; setting the returned event ends that."""
    stop = threading.Event()

    def follow() -> None:
        shown = 0
        while not stop.wait(0.02):
            try:
                lines = program.log.splitlines()
            except FileNotFoundError:  # the hosts are gone: the demo failed or was interrupted
                return
            for line in lines[shown:]:
                say(f"  | {line}")
            shown = len(lines)

    threading.Thread(target=follow, daemon=True).start()
    return stop


def ping(host: Host, count: int) -> str:
    """Ping across the link; return the number of replies and the round trips."""
    output = shell(host, f"ping -n -c{count} -i0.1 -q {LAN_THERE}")
    got = re.search(r"(\d+) received.*= ([\d./]+) ms", output, re.DOTALL)
    if got is None or int(got[1]) != count:
        raise AssertionError(f"some pings were not answered:\n{output}")
    return f"{count} of {count} replies; min/avg/max/mdev {got[2]} ms"


def run(bed: Bed) -> None:
    """Run the demo."""
    here, there = bed.here, bed.there
    say(f"two hosts: here ({bed.HERE4}) and there ({bed.THERE4}), which runs a real sshd")
    say("\neach gets a bridge with an address of one network; the bridges are not joined yet:")
    for host, address in ((here, LAN_HERE), (there, LAN_THERE)):
        shell(host, "ip link add bridge0 type bridge")
        shell(host, "ip link set bridge0 up")
        shell(host, f"ip addr add {address}/24 dev bridge0")
    if here.reaches(LAN_THERE):
        raise AssertionError("the bridges are joined before vknet has started")
    say(f"  a ping from here to {LAN_THERE}: no answer")

    say(f"\none command joins them into one Ethernet:\n  here# {COMMAND}")
    began = time.monotonic()
    vknet = Program(here, *shlex.split(COMMAND))
    stop = show_log(vknet)
    eventually(lambda: here.reaches(LAN_THERE), "a ping across", every=0)
    first = time.monotonic() - began
    say(f"  command to first ping: {first:.2f} s")
    say(f"  {ping(here, 20)}")

    say("\nkill ssh, and the link heals:")
    (ssh,) = here.processes("-x -T -e none")
    index = here.link("tap0")["ifindex"]
    killed = time.monotonic()
    os.kill(ssh, signal.SIGKILL)
    say(f"  here# kill -KILL {ssh}")
    eventually(lambda: not here.reaches(LAN_THERE), "the loss of the link", every=0)
    eventually(lambda: here.reaches(LAN_THERE), "a ping across again", every=0)
    healed = time.monotonic() - killed
    say(f"  kill to first ping: {healed:.2f} s, including the delay of 1 s that -r 1 asks for")
    if here.link("tap0")["ifindex"] != index:
        raise AssertionError("tap0 was replaced when the link was lost")
    say(f"  tap0 is still the same interface (index {index}), still in bridge0")
    say(f"  {ping(here, 20)}")

    say(f"\nstop vknet:\n  here# kill {vknet.process.pid}")
    status = vknet.stop()
    eventually(lambda: "tap0" not in there.interfaces(), "the end of tap0 on there")
    left = [f"{h.name} {' '.join(h.interfaces())}" for h in (here, there)]
    time.sleep(0.05)
    stop.set()
    say(f"  exit status {status}; interfaces left: {', '.join(left)}")
    if status != 0 or here.processes("ssh") or there.processes("vknet -S"):
        raise AssertionError("vknet failed, or left processes behind")


def show() -> None:
    """Set up the hosts, run the demo, and remove them."""
    began = time.monotonic()
    with two_hosts() as bed:
        run(bed)
    say(f"\nall cleaned up; the demo took {time.monotonic() - began:.1f} s")
