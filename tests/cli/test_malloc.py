"""The heap of the commands, in processes of their own: what is done to it lasts."""

from __future__ import annotations

import subprocess
import sys

# Batches of super-frames that come and go; prints how often the kernel had to map a page.
BATCHES = """
import resource
from vknet.cli.malloc import tune_malloc
{tune}
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def batch(size=9): return [bytes(70_000) for _ in range(size)]
# What is free further down is taken first.
filled = batch(40)
batch()
before = faults()
for _ in range(200): batch()
print(faults() - before)
"""

PAGES_OF_A_BATCH = 9 * 70_000 // 4096


def page_faults(tune: str) -> int:
    program = BATCHES.format(tune=tune)
    return int(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
    )


def test_batches_come_and_go_without_new_pages() -> None:
    # A few for the heap to grow once.
    assert page_faults("tune_malloc()") < 10 * PAGES_OF_A_BATCH
    # As they would not by themselves.
    assert page_faults("") > 30 * PAGES_OF_A_BATCH
