"""A path as the Internet has them between the two hosts: `python -m vknet.sim` for a wire.

The kernels that this runs on need no netem for it.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from testbed.hosts import REPOSITORY, eventually
from testbed.program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.hosts import Bed

__all__ = ["impaired_wire"]


@contextmanager
def impaired_wire(bed: Bed, *options: str) -> Iterator[Program]:
    """Have the two hosts joined by an impaired wire, with the usual names and addresses.

    Whatever is connected over the wire loses its connection at the beginning and at the end.

    Args:
        bed: the hosts.
        options: of ``python -m vknet.sim``.
    """
    bed.here.ip("link", "del", "wan0")
    program = Program(
        bed.here, "env", f"--chdir={REPOSITORY}", sys.executable, "-m", "vknet.sim", *options,
        "wan0", "wan1",
    )  # fmt: skip
    try:
        program.says("joined wan0 and wan1")
        bed.here.ip("link", "set", "wan1", "netns", str(bed.there.init), "name", "wan0")
        bed.give_wire_addresses()
        eventually(lambda: bed.here.reaches(bed.THERE4, wait=2.0), "a ping across the wire")
        yield program
    finally:
        program.stop()
        bed.lay_wire()
