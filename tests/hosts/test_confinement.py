"""vknetd under the restrictions of its systemd unit: it still works, and can do nothing else."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from testbed.hosts import REPOSITORY, eventually
from testbed.program import Program

if TYPE_CHECKING:
    from testbed.hosts import Host

UNIT = str(REPOSITORY / "systemd/vknetd.service")
CONFINED = ("unshare", "--mount", "--propagation", "private", sys.executable)
LAUNCHER = str(REPOSITORY / "tests/support/confinement.py")

CLIENT = """\
import signal, socket
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect("/var/run/vknet")
signal.pause()
"""

# Tries forbidden system calls; prints the error of each.
TRY = """\
import errno, mmap, os, socket, sys

def result(call):
    try:
        call()
    except OSError as exc:
        return errno.errorcode[exc.errno]
    return "ok"

print(
    result(lambda: open("/etc/vknet-was-here", "w")),
    result(lambda: open("/run/vknet-was-here", "w")),
    result(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)),
    result(lambda: os.setuid(65534)),
    result(lambda: os.chown("/run", 1, 1)),
    result(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
)
"""


def confined(*command: str) -> tuple[str, ...]:
    """Return the command line that runs a command under the restrictions of the unit."""
    return (*CONFINED, LAUNCHER, "confine", UNIT, *command)


@pytest.fixture
def host(here: Host) -> Host:
    """Return a host that has the group vknet."""
    with (here.directory / "etc/group").open("a") as file:
        file.write("vknet:x:20999:\n")
    return here


def status(host: Host) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(host.output("vknetd", "--status", "--json"))
    return result


def test_confinement_forbids_what_the_unit_does_not_allow(host: Host) -> None:
    # A read-only file system, a writable one, an address family, a system call, a capability, and
    # memory that is both writable and executable.
    assert host.output(*confined(sys.executable, "-c", TRY)).split() == [
        *("EROFS", "ok", "EPERM", "EPERM", "EPERM", "EACCES")
    ]


def test_confined_vknetd_works(host: Host) -> None:
    options = ("-d", "-v", "-b", "bridge7", "198.18.7.1/24", "fd00:7::1/64")
    daemon = Program(host, *confined("vknetd", *options))
    daemon.says("ready: listening on /var/run/vknet, uplink tap0, in bridge7")
    assert "198.18.7.1/24" in host.ip("addr", "show", "bridge7")
    assert host.output("stat", "-c", "%a %G", "/run/vknet", "/run/vknet.ctl").split() == [
        *("660", "vknet", "660", "vknet")
    ]
    # It looks up the name of a client in /proc.
    client = Program(host, sys.executable, "-c", CLIENT)
    daemon.says("client1 connected: python")
    assert [port["kind"] for port in status(host)["ports"]] == ["tap", "client"]
    # It creates its TAP and its bridge again.
    host.ip("link", "del", "tap0")
    daemon.says("tap0 is back")
    host.ip("link", "del", "bridge7")
    daemon.says("put tap0 back in the bridge bridge7")
    client.stop()
    daemon.says("client1 disconnected")
    assert daemon.stop() == 0
    eventually(lambda: "tap0" not in host.interfaces(), "a removed TAP")
    assert host.run("test", "-e", "/run/vknet", check=False).returncode == 1


def test_confined_vknetd_replaces_the_stale_socket_of_a_killed_one(host: Host) -> None:
    first = Program(host, *confined("vknetd", "-d", "198.18.7.1/24"))
    first.says("ready")
    first.process.kill()
    first.process.wait()
    # These options need no more privileges: a group, and a higher limit of descriptors.
    options = ("--group", "vknet", "--clients", "2000")
    command = ("prlimit", "--nofile=256:4096", "vknetd", "-d", "198.18.7.1/24", *options)
    second = Program(host, *confined(*command))
    second.says("replacing /var/run/vknet, whose vknetd no longer runs")
    second.says("ready")
    assert second.stop() == 0
