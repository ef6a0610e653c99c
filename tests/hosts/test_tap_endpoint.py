"""TAP interfaces in a network namespace: the endpoint's contract, and their owners."""

from __future__ import annotations

import hashlib
import re
import sys

from testbed.hosts import REPOSITORY, Bed, Host, eventually
from testbed.program import Program
from tests.support.conformance import CHECKS
from tests.support.lan import transfer


def test_tap_endpoint_conforms(here: Host) -> None:
    output = here.output(
        *(sys.executable, "-m", "tests.support.tap_conformance"),
        env={"PYTHONPATH": str(REPOSITORY)},
    )
    assert output.splitlines() == [f"passed {check.__name__}" for check in CHECKS]


def test_offloads_of_an_earlier_owner_are_off_on_a_persistent_tap(bed: Bed) -> None:
    here, there = bed.here, bed.there
    here.ip("tuntap", "add", "dev", "tap0", "mode", "tap", "vnet_hdr")
    # Its last user took segments of 64 KB with a header before each.
    leave = (
        "import fcntl, os, struct; fd = os.open('/dev/net/tun', os.O_RDWR);"
        "fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', b'tap0', 0x5002));"
        "fcntl.ioctl(fd, 0x400454d8, struct.pack('i', 12)); fcntl.ioctl(fd, 0x400454d0, 7)"
    )
    here.run(sys.executable, "-c", leave)

    vknet = Program(here, "vknet", "--offload", "off", "tap0", "there:auto")
    vknet.says("link up")
    for host, address in ((here, "198.18.1.1/24"), (there, "198.18.1.2/24")):
        host.ip("addr", "add", address, "dev", "tap0")
    seen = there.directory / "seen"
    with seen.open("wb") as out:
        there.start("tcpdump", "-i", "tap0", "-nn", "-v", "-l", "tcp", stdout=out, stderr=out)
    eventually(lambda: b"listening" in seen.read_bytes(), "tcpdump listening")
    here.ip("link", "set", "tap0", "up")
    data = bytes(2_000_000)
    assert transfer(here, there, "198.18.1.2", data) == hashlib.sha256(data).hexdigest()
    eventually(lambda: b"Flags [F" in seen.read_bytes(), "the end of the connection seen")
    lengths = {int(n) for n in re.findall(rb"198.18.1.1.* length (\d+)", seen.read_bytes())}
    assert max(lengths) == 1448, "no segment over the MTU"
    assert b"incorrect" not in seen.read_bytes()
