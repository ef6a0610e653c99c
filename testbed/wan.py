"""An Internet path between the two hosts: `python -m vknet.sim` in place of the cable.

It needs no netem, which not every kernel has.
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

__all__ = ["impaired_cable"]


@contextmanager
def impaired_cable(bed: Bed, *options: str) -> Iterator[Program]:
    """Join the two hosts by a cable that limits, delays and loses.

    Interface names and addresses stay as they are.  Existing connections across the cable break at
    the start and at the end.

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
        bed.configure_cable()
        eventually(lambda: bed.here.reaches(bed.THERE4, wait=2.0), "a ping across the cable")
        yield program
    finally:
        program.stop()
        bed.connect_cable()
