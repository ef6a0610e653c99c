"""User-space kernels on the switches of two hosts, and vknet between the switches."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from testbed.hosts import Bed, Host, eventually
from testbed.program import Program
from testbed.uml import Uml

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 4096 * 20

# A switch without an uplink, which needs no privileges.
ISOLATED = ("-U", "-t", "none")


def path_on(host: Host) -> Path:
    """Return the path of the switch, in a directory that alice may write."""
    return host.user_home / "vknet"


def vknetd(host: Host, *options: str, user: str | None = None) -> Program:
    """Start a vknetd, and wait until it is ready."""
    program = Program(host, "vknetd", "-d", "-p", str(path_on(host)), *options, user=user)
    program.says("ready")
    return program


def joined(bed: Bed, *options: str) -> Program:
    """Start vknet between the two switches, and wait until the link is up."""
    program = Program(
        bed.here, "vknet", *options, str(path_on(bed.here)), f"myhomesystem:{path_on(bed.there)}"
    )
    program.says("link up")
    return program


def kernel(host: Host, address: str, user: str | None = None) -> Uml:
    """Start a kernel on the switch of a host."""
    return Uml(host, path_on(host), address, user)


def ping(one: Uml, address: str) -> None:
    """Wait until a ping is answered."""
    eventually(lambda: one.reaches(address), f"an answer of {address} to {one}")


def copy(source: Uml, sink: Uml) -> str:
    """Send `DATA` over one TCP connection; return the SHA-256 digest of the received bytes."""
    (source.root / "data").write_bytes(DATA)
    # httpd listens before it goes to the background.
    source.run("httpd -p 80 -h /")
    fetch = f"set -o pipefail; wget -q -O - http://{source.address}/data | sha256sum"
    return sink.output(fetch).split()[0]


def test_kernels_on_two_hosts_ping_and_copy_files_both_ways(bed: Bed) -> None:
    here, there = bed.here, bed.there
    for host in (here, there):
        vknetd(host, *ISOLATED)
    one, other = kernel(here, "198.18.5.1/24"), kernel(there, "198.18.5.2/24")
    joined(bed, "-r", "5")
    one.up()
    other.up()

    ping(one, other.address)
    ping(other, one.address)
    digest = hashlib.sha256(DATA).hexdigest()
    assert copy(one, other) == digest
    assert copy(other, one) == digest


def test_kernels_reach_each_other_after_ssh_and_a_switch_were_killed(bed: Bed) -> None:
    here, there = bed.here, bed.there
    vknetd(here, *ISOLATED)
    switch = vknetd(there, *ISOLATED)
    one, other = kernel(here, "198.18.5.1/24"), kernel(there, "198.18.5.2/24")
    vknet = joined(bed, "-r", "0.2")
    ping(one.up(), other.up().address)

    (ssh,) = here.processes("-x -T -e none")
    os.kill(ssh, signal.SIGKILL)
    vknet.says("link up", times=2)
    ping(one, other.address)

    switch.signal(signal.SIGKILL)
    vknet.says("link lost", times=2)
    vknetd(there, *ISOLATED)
    vknet.says("link up", times=3)
    assert not one.reaches(other.address), "a kernel does not reconnect by itself"
    other.plug_in_again()
    ping(one, other.address)


def test_user_without_privileges_runs_a_switch_and_kernels(here: Host) -> None:
    vknetd(here, *ISOLATED, user="alice")
    one, other = (kernel(here, f"198.18.5.{n}/24", user="alice") for n in (1, 2))
    ping(one.up(), other.up().address)


def test_kernel_and_its_host_reach_each_other_through_the_tap(here: Host) -> None:
    vknetd(here, "-t", "tap0", "--group", "alice", "198.18.5.1/24")
    one = kernel(here, "198.18.5.2/24", user="alice").up()
    ping(one, "198.18.5.1")
    assert here.reaches(one.address, wait=5)

    # A frame with a source outside the prefix does not leave the switch.
    one.run("ip addr add 198.18.6.2/24 dev vec0; ip neigh flush dev vec0")
    assert one.run("ping -c 1 -W 1 -I 198.18.6.2 198.18.5.1", check=False).returncode == 1
    status = here.output("vknetd", "--status", "--json", "-p", str(path_on(here)))
    (tap,) = [port for port in json.loads(status)["ports"] if port["name"] == "tap0"]
    assert sum(tap["out"]["drops"].values()) >= 1


@pytest.mark.parametrize("user", [None, "alice"])
def test_killed_kernel_leaves_no_process_behind(here: Host, user: str | None) -> None:
    vknetd(here, *ISOLATED, user=user)
    one = kernel(here, "198.18.5.1/24", user=user).up()
    assert len(here.processes(str(one.root))) > 3, (
        "the helpers of the kernel, and the processes inside"
    )
    one.kill()
    assert here.processes(str(one.root)) == []
