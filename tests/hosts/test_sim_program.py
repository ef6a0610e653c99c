"""`python -m vknet.sim` between TAPs on two hosts."""

from __future__ import annotations

import hashlib
import re
import sys
from typing import TYPE_CHECKING

import pytest

from testbed.hosts import REPOSITORY, eventually
from testbed.program import Program
from tests.support.lan import transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.hosts import Bed

HERE = "198.18.7.1"
THERE = "198.18.7.2"


@pytest.fixture
def start_cable(bed: Bed) -> Callable[[str], Program]:
    """Join `sim0` on one host and `sim1` on the other, and give them addresses."""

    def start(options: str) -> Program:
        here, there = bed.here, bed.there
        program = Program(
            here, "env", f"--chdir={REPOSITORY}", sys.executable, "-m", "vknet.sim",
            *options.split(), "sim0", "sim1",
        )  # fmt: skip
        program.says("joined sim0 and sim1")
        here.ip("link", "set", "sim1", "netns", str(there.init))
        for host, name, address in ((here, "sim0", HERE), (there, "sim1", THERE)):
            host.ip("addr", "add", f"{address}/24", "dev", name)
            host.ip("link", "set", name, "up")
        eventually(lambda: here.reaches(THERE, wait=1.0), "a ping over the cable")
        return program

    return start


def test_ping_between_two_hosts_takes_the_delay_of_both_directions(
    bed: Bed, start_cable: Callable[[str], Program]
) -> None:
    program = start_cable("--delay 20ms --back-delay 30ms --rate 50mbit --limit 200ms")
    pinged = bed.here.output("ping", "-n", "-c20", "-i0.01", "-q", THERE)
    found = re.search(r"= ([\d.]+)/", pinged)
    assert found is not None, pinged
    assert float(found[1]) >= 50.0
    data = bytes(3_000_000)
    assert transfer(bed.here, bed.there, THERE, data) == hashlib.sha256(data).hexdigest()
    assert program.stop() == 0
    there, back = re.findall(r"sim\d to sim\d: \d+ frames, (\d+) bytes", program.log)
    assert int(there) > 3_000_000 > int(back)


def test_lost_frames_are_counted(bed: Bed, start_cable: Callable[[str], Program]) -> None:
    program = start_cable("--loss 50% --seed 5")
    bed.here.run("ping", "-n", "-c200", "-i0.002", "-W0.1", "-q", THERE, check=False)
    assert program.stop() == 0
    lost = [int(count) for count in re.findall(r"(\d+) dropped \(loss\)", program.log)]
    assert len(lost) == 2
    assert lost[0] > 60


def test_deleted_tap_ends_the_program(bed: Bed, start_cable: Callable[[str], Program]) -> None:
    program = start_cable("--delay 1ms")
    bed.there.ip("link", "del", "sim1")
    assert program.status() == 1
    assert "vknet.sim: the interface sim1 was deleted" in program.log
