"""Figures in README.md and docs/performance.md are those of the benchmarks' JSON."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from bench.measures import percentile

ROOT = Path(__file__).resolve().parent.parent
README = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
PERFORMANCE = (ROOT / "docs/performance.md").read_text()
PROSE = re.sub(r"\s+", " ", PERFORMANCE)
TOOLS = json.loads((ROOT / "docs/benchmarks.json").read_text())["tools"]
CELLS = json.loads((ROOT / "docs/benchmarks-wan.json").read_text())["cells"]

BULK = "10 Mbit/s, 30 ms; 0 % loss; 8 TCP"
FLOOD = "10 Mbit/s, 30 ms; 0 % loss; UDP at 2x"


def median(tool: str, figure: str, digits: int = 0) -> str:
    return f"{TOOLS[tool]['medians'][figure]:.{digits}f}"


def loads(cell: str, tool: str) -> list[dict[str, Any]]:
    return [done["load"] for done in CELLS[cell][tool] if done["load"] is not None]


def ping(cell: str, tool: str, percent: int) -> str:
    """A percentile of the pings under load, in ms."""
    each = [percentile([ms for _, ms in load["pings"]], percent) for load in loads(cell, tool)]
    return f"{statistics.median(each):.0f}"


def goodput(cell: str, tool: str) -> str:
    """Of the loads's first direction, in Mbit/s."""
    return f"{statistics.median(load['goodput'][0] for load in loads(cell, tool)):.2f}"


def memory(tool: str) -> str:
    """Of the larger side, in MB."""
    return f"{max(host['peak'] for host in TOOLS[tool]['memory'].values()):.0f}"


@pytest.mark.parametrize("tool", ["vknet", "ssh -w", "vde", "OpenVPN"])
def test_a_row_of_the_table_is_what_was_measured(tool: str) -> None:
    (row,) = re.findall(rf"^\| {tool} \| (.*) \|$", PERFORMANCE, re.MULTILINE)
    tcp = f"{median(tool, 'tcp_there')} / {median(tool, 'tcp_here')}"
    expected = [tcp, median(tool, "udp", 1), median(tool, "rtt_p50", 2)]
    wide = tool in CELLS[BULK]
    expected += [ping(cell, tool, 95) if wide else "not measured" for cell in (BULK, FLOOD)]
    assert row.split(" | ") == expected


def test_the_readme_has_what_was_measured() -> None:
    idle = f"{median('vknet', 'rtt_p50', 2)} ms instead of {median('ssh -w', 'rtt_p50', 2)} ms"
    sizes = f"{memory('vknet')} MB of memory instead of {memory('ssh -w')} MB"
    for words in (
        f"TCP at {median('vknet', 'tcp_there')} Mbit/s",
        f"`ssh -w` carries {median('ssh -w', 'tcp_there')}.",
        f"an idle ping takes {idle}",
        f"the larger side {sizes}",
        f"within {ping(BULK, 'vknet', 95)} ms, with `ssh -w` within {ping(BULK, 'ssh -w', 95)} ms",
    ):
        assert words in README, words


def test_the_page_on_performance_has_what_was_measured() -> None:
    lossy = "10 Mbit/s, 30 ms; 1 % loss; 8 TCP"
    slow = "2 Mbit/s, 20 ms; 0 % loss; 8 TCP both ways"
    beside = "10 Mbit/s, 30 ms; 0 % loss; 8 TCP beside a bare one"
    ours, theirs = TOOLS["vknet"]["medians"], TOOLS["ssh -w"]["medians"]
    theirs_bulk, lossy_ping = ping(BULK, "ssh -w", 95), ping(lossy, "vknet", 95)
    theirs_beside = ping(beside, "ssh -w", 50)
    for words in (
        f"come back within {ping(BULK, 'vknet', 95)} ms, where `ssh -w` needs {theirs_bulk} ms",
        f"{ours['tcp_there'] / theirs['tcp_there']:.2f} times as fast",
        f"{ours['cpu_per_gb'] / theirs['cpu_per_gb']:.2f} of its CPU time",
        f"With `--offload off`, it carries {median('vknet --offload off', 'tcp_there')} Mbit/s",
        f"the limit, carries {median('plain ssh pipe', 'tcp_there')} Mbit/s.",
        f"({median('vknet', 'rtt_p50', 2)} ms instead of {median('ssh -w', 'rtt_p50', 2)} ms)",
        f"The larger side takes {memory('vknet')} MB",
        f"`ssh -w` takes {memory('ssh -w')} MB.",
        f"comes {median('vknet', 'over_ssh_true', 2)} s later",
        f"get {goodput(lossy, 'vknet')} Mbit/s together, and the ping's p95 is {lossy_ping} ms",
        f"8 TCP streams each way the ping's p95 is {ping(slow, 'vknet', 95)} ms",
        f"get {goodput(beside, 'vknet')} of 10 Mbit/s",
        f"`ssh -w` get {goodput(beside, 'ssh -w')} with pings of {theirs_beside} ms (p50)",
        f"{ping(beside, 'vknet', 50)} ms (p50), {ping(beside, 'vknet', 95)} ms (p95)",
    ):
        assert words in PROSE, words
