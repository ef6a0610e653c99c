"""The malloc settings of the commands.  Each test needs a process, since they cannot be undone."""

from __future__ import annotations

import subprocess
import sys

# Allocates and frees batches of super-frames; prints the number of page faults.
BATCHES = """
import resource
from vknet.cli.malloc import tune_malloc
{tune}
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def batch(size=9): return [bytes(70_000) for _ in range(size)]
# Fill free memory further down in the heap, which would be used first.
filled = batch(40)
batch()
before = faults()
for _ in range(200): batch()
print(faults() - before)
"""

PAGES_OF_A_BATCH = 9 * 70_000 // 4096


def page_faults(tune: str) -> int:
    """Return the number of page faults of the program, with this line of set-up."""
    program = BATCHES.format(tune=tune)
    return int(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
    )


def test_batches_reuse_their_pages() -> None:
    # The heap grows once.
    assert page_faults("tune_malloc()") < 10 * PAGES_OF_A_BATCH
    # Without the settings, they do not.
    assert page_faults("") > 30 * PAGES_OF_A_BATCH
