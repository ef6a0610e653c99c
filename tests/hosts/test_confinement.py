"""vknetd with no more rights than its unit gives it: what it does, it can do, and nothing else."""

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

TRY = """\
import errno, mmap, os, socket, sys

def number(call):
    try:
        call()
    except OSError as exc:
        return errno.errorcode[exc.errno]
    return "fine"

print(
    number(lambda: open("/etc/vknet-was-here", "w")),
    number(lambda: open("/run/vknet-was-here", "w")),
    number(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)),
    number(lambda: os.setuid(65534)),
    number(lambda: os.chown("/run", 1, 1)),
    number(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
)
"""


def confined(*command: str) -> tuple[str, ...]:
    return (*CONFINED, LAUNCHER, "confine", UNIT, *command)


@pytest.fixture
def host(here: Host) -> Host:
    with (here.directory / "etc/group").open("a") as file:
        file.write("vknet:x:20999:\n")
    return here


def status(host: Host) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(host.output("vknetd", "--status", "--json"))
    return result


def test_the_confinement_confines(host: Host) -> None:
    # A file system that is read-only, one that is not, a family, a call, a right, memory.
    assert host.output(*confined(sys.executable, "-c", TRY)).split() == [
        *("EROFS", "fine", "EPERM", "EPERM", "EPERM", "EACCES")
    ]


def test_a_confined_vknetd_does_all_it_does(host: Host) -> None:
    options = ("-d", "-v", "-b", "bridge7", "198.18.7.1/24", "fd00:7::1/64")
    daemon = Program(host, *confined("vknetd", *options))
    daemon.says("ready: listening at /var/run/vknet, tap0 the way out, in bridge7")
    assert "198.18.7.1/24" in host.ip("addr", "show", "bridge7")
    assert host.output("stat", "-c", "%a %G", "/run/vknet", "/run/vknet.ctl").split() == [
        *("660", "vknet", "660", "vknet")
    ]
    # A client by its name, which is looked up in /proc.
    client = Program(host, sys.executable, "-c", CLIENT)
    daemon.says("client1 came: python")
    assert [port["kind"] for port in status(host)["ports"]] == ["tap", "client"]
    # Its TAP, its bridge.
    host.ip("link", "del", "tap0")
    daemon.says("tap0 is there again")
    host.ip("link", "del", "bridge7")
    daemon.says("put tap0 back in the bridge bridge7")
    client.stop()
    daemon.says("client1 has gone")
    assert daemon.stop() == 0
    eventually(lambda: "tap0" not in host.interfaces(), "the end of the TAP")
    assert host.run("test", "-e", "/run/vknet", check=False).returncode == 1


def test_a_confined_vknetd_takes_over_the_socket_of_one_that_was_killed(host: Host) -> None:
    first = Program(host, *confined("vknetd", "-d", "198.18.7.1/24"))
    first.says("ready")
    first.process.kill()
    first.process.wait()
    # Nor do these take more: a group of its own to name, and more descriptors than at the start.
    options = ("--group", "vknet", "--clients", "2000")
    few = ("prlimit", "--nofile=256:4096", "vknetd", "-d", "198.18.7.1/24", *options)
    second = Program(host, *confined(*few))
    second.says("replacing /var/run/vknet, whose vknetd has gone")
    second.says("ready")
    assert second.stop() == 0
