"""CPU time and resident memory of processes, from proc(5)."""

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

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

# Fields of /proc/PID/stat, counted from the one after the name of the command: utime, stime, cutime
# and cstime.  The last two are those of children that have ended and were waited for.
TIME_FIELDS: Final = slice(11, 15)

Pids = dict[str, list[int]]
"""Process ids by the name of the host."""


def pids_now(bed: Bed) -> Pids:
    """Return every process of both hosts."""
    return {host.name: host.processes() for host in (bed.here, bed.there)}


def pids_since(bed: Bed, before: Mapping[str, Iterable[int]], names: Sequence[str] = ()) -> Pids:
    """Return the processes of both hosts that have started since, and still run.

    Args:
        bed: the hosts.
        before: an earlier result of `pids_now`.
        names: only processes with one of these names; all processes if empty.
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
    """Return the CPU time that these processes have used, in seconds.

    It is user and system time, with that of children that have ended, in steps of 10 ms per
    process.  The work of kernel threads is in no process's account.

    Raises:
        OSError: a process has ended.
    """
    ticks = 0
    for pid in (pid for side in pids.values() for pid in side):
        stat = (Path("/proc") / str(pid) / "stat").read_text()
        ticks += sum(int(word) for word in stat.rpartition(")")[2].split()[TIME_FIELDS])
    return ticks / TICKS_PER_S


@dataclass(slots=True)
class Memory:
    """Resident memory of a tool on one host, sampled under load.

    Attributes:
        samples: one about every second: MB by process name.
    """

    samples: list[dict[str, float]] = field(default_factory=list)

    def sample(self, pids: Iterable[int]) -> None:
        """Add a sample of these processes.

        Raises:
            OSError: a process has ended.
        """
        sizes: Counter[str] = Counter()
        for pid in pids:
            pages = (Path("/proc") / str(pid) / "statm").read_text().split()[1]
            sizes[_name_of(pid)] += int(pages) * PAGE_BYTES
        self.samples.append({name: size / 1e6 for name, size in sizes.items()})

    @property
    def peak(self) -> float:
        """The largest sum of one sample, in MB; a shared page counts once per process."""
        return max(sum(sample.values()) for sample in self.samples)

    @property
    def peaks(self) -> dict[str, float]:
        """The largest size by process name, in MB."""
        names = {name for sample in self.samples for name in sample}
        return {
            name: max(sample.get(name, 0.0) for sample in self.samples) for name in sorted(names)
        }

    @property
    def growth(self) -> float:
        """The mean of the last fifth of the samples minus that of the second fifth, in MB."""
        fifth = max(1, len(self.samples) // 5)
        sums = [sum(sample.values()) for sample in self.samples]
        return statistics.mean(sums[-fifth:]) - statistics.mean(sums[fifth : 2 * fifth] or sums)
