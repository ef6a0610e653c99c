"""What processes cost: CPU time and resident memory, from proc(5)."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from testbed.hosts import Bed

__all__ = ["Memory", "Pids", "cpu_seconds", "pids_now", "pids_since"]

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")

# In /proc/PID/stat, counted from the word after the command's name: utime, stime, and those of
# children that have ended and were waited for.
TIMES: Final = slice(11, 15)

Pids = dict[str, list[int]]
"""Processes by the name of the host they run on."""


def pids_now(bed: Bed) -> Pids:
    """Every process of both hosts."""
    return {host.name: host.processes() for host in (bed.here, bed.there)}


def pids_since(bed: Bed, before: Mapping[str, Iterable[int]], names: Sequence[str] = ()) -> Pids:
    """What has been started on both hosts since, and still runs.

    Args:
        bed: the hosts.
        before: what `pids_now` said then.
        names: only processes called so; all of them if empty.
    """
    return {
        host: [
            pid
            for pid in pids
            if pid not in set(before[host]) and (not names or _name_of(pid) in names)
        ]
        for host, pids in pids_now(bed).items()
    }


def _name_of(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def cpu_seconds(pids: Pids) -> float:
    """CPU time these processes have used so far, with that of their children that have ended.

    In seconds, in steps of 10 ms a process; user and system time together.  What the kernel does in
    threads of its own is in nobody's account.

    Raises:
        OSError: one of them has ended.
    """
    ticks = 0
    for pid in (pid for side in pids.values() for pid in side):
        stat = (Path("/proc") / str(pid) / "stat").read_text()
        ticks += sum(int(word) for word in stat.rpartition(")")[2].split()[TIMES])
    return ticks / TICKS


@dataclass(slots=True)
class Memory:
    """Resident memory of a tool on one host, in MB, sampled while it was under load.

    Attributes:
        samples: one a second or so: MB by the processes' names.
    """

    samples: list[dict[str, float]] = field(default_factory=list)

    def sample(self, pids: Iterable[int]) -> None:
        """Look at these processes now.

        Raises:
            OSError: one of them has ended.
        """
        sizes: Counter[str] = Counter()
        for pid in pids:
            pages = (Path("/proc") / str(pid) / "statm").read_text().split()[1]
            sizes[_name_of(pid)] += int(pages) * PAGE
        self.samples.append({name: size / 1e6 for name, size in sizes.items()})

    @property
    def peak(self) -> float:
        """The largest sum of a sample; shared pages count in each process that has them."""
        return max(sum(sample.values()) for sample in self.samples)

    @property
    def peaks(self) -> dict[str, float]:
        """The largest size by process name."""
        names = {name for sample in self.samples for name in sample}
        return {
            name: max(sample.get(name, 0.0) for sample in self.samples) for name in sorted(names)
        }

    @property
    def growth(self) -> float:
        """The mean of the last fifth of the samples less that of the second: 0 if it is flat."""
        fifth = max(1, len(self.samples) // 5)
        sums = [sum(sample.values()) for sample in self.samples]
        return statistics.mean(sums[-fifth:]) - statistics.mean(sums[fifth : 2 * fifth] or sums)
