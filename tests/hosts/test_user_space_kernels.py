"""Kernels in user space on two hosts, on switches that vknet joins: the original's first example."""

from __future__ import annotations

import hashlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from testbed.hosts import Bed, Host, eventually
from testbed.program import Program
from testbed.uml import Uml

if TYPE_CHECKING:
    from pathlib import Path

NET = "198.18.5"

DATA = bytes(range(256)) * 4096 * 20


def path_on(host: Host) -> Path:
    """Where its switch listens: the hosts share the file system."""
    return host.directory / "vknet"


def vknetd(host: Host, *options: str, user: str | None = None) -> Program:
    program = Program(host, "vknetd", "-d", "-p", str(path_on(host)), *options, user=user)
    program.says("ready")
    return program


def isolated(host: Host, user: str | None = None) -> Program:
    """A plain switch with no way out."""
    return vknetd(host, "-U", "-t", "none", user=user)


def kernel(host: Host, last: int, user: str | None = None) -> Uml:
    return Uml(host, path_on(host), f"{NET}.{last}/24", user)


def ping(one: Uml, other: Uml) -> None:
    eventually(lambda: one.reaches(other.address), f"a ping from {one} to {other}")


def copy(source: Uml, sink: Uml) -> str:
    """Send the data over one TCP connection; the digest of what arrived."""
    (source.root / "data").write_bytes(DATA)
    # It listens by the time that it has put itself in the background.
    source.run("httpd -p 80 -h /")
    fetch = f"wget -q -O - http://{source.address}/data | sha256sum"
    return sink.output(fetch).split()[0]


def test_kernels_on_two_hosts_ping_and_copy_through_switches_that_vknet_joins(bed: Bed) -> None:
    here, there = bed.here, bed.there
    isolated(here)
    isolated(there)
    vknet = Program(
        here,
        *("vknet", "-r", "5", str(path_on(here)), f"myhomesystem:{path_on(there)}"),
    )
    vknet.says("link up")
    one, other = kernel(here, 1), kernel(there, 2)

    ping(one, other)
    digest = hashlib.sha256(DATA).hexdigest()
    assert copy(one, other) == digest
    assert copy(other, one) == digest

    (ssh,) = here.processes("ssh -x -T")
    os.kill(ssh, signal.SIGKILL)
    vknet.says("link lost: ssh was killed by SIGKILL")
    assert not one.reaches(other.address)
    vknet.says("link up", times=2)
    ping(one, other)
