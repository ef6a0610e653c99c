"""The benchmarks: statistics, and the pages that they write."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from bench import wan
from bench.figures import BASELINE, SSH_PIPE
from bench.measures import Round, percentile
from bench.processes import Memory, cpu_seconds
from bench.report import Run, to_json, to_markdown
from bench.wan_report import jain, wan_to_markdown

if TYPE_CHECKING:
    from collections.abc import Sequence


def rounds(command: str, tcp: Sequence[float], memory: Memory | None = None) -> list[Round]:
    memories = {} if memory is None else {"here": memory, "there": memory}
    return [Round({"tcp_there": each}, memories, [command]) for each in tcp]


def row(page: str, section: str, name: str) -> list[str]:
    """Return the cells of a tool's row in a section."""
    table = page.partition(f"## {section}")[2].partition("\n## ")[0]
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture
def page() -> str:
    memory = Memory([{"tool": 20.0, "ssh": 5.0}, {"tool": 30.0, "ssh": 4.0}])
    run = Run(
        5,
        60,
        {"kernel": "Linux"},
        {
            "fast": rounds("fast there", (700, 600, 100), memory),
            BASELINE: rounds("ssh -w", (100, 200, 300)),
            SSH_PIPE: rounds("ssh", (1200,)),
        },
    )
    return to_markdown(json.loads(json.dumps(to_json(run))))


def test_page_has_medians_and_not_means(page: str) -> None:
    assert row(page, "Medians", "fast")[:2] == ["fast", "600"]


def test_ratios_refer_to_ssh_w_and_the_plain_ssh_pipe(page: str) -> None:
    cells = row(page, "Against", "fast")
    assert cells[1] == "3.00"
    assert cells[-2] == "0.50"


def test_missing_figure_is_a_dash(page: str) -> None:
    assert row(page, "Medians", "fast")[2:] == ["-"] * 8
    assert row(page, "Against", "fast")[-1] == "-"


def test_memory_peak_is_the_largest_sum_of_one_sample(page: str) -> None:
    assert row(page, "Memory", "fast")[1] == "34.0 (ssh 5.0, tool 30.0)"


def test_memory_growth_shows_a_leak_but_no_warm_up() -> None:
    flat = Memory([{"tool": 30.0}] * 60)
    leaking = Memory([{"tool": 30.0 + second} for second in range(60)])
    warming_up = Memory([{"tool": min(10.0 + second, 15.0)} for second in range(60)])
    assert flat.growth == warming_up.growth == 0
    assert leaking.growth == 36


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (50, 50), (98.5, 99), (99, 99), (100, 100)]
)
def test_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_cpu_time_counts_each_process_with_its_ended_children() -> None:
    times = os.times()
    ours = times.user + times.system + times.children_user + times.children_system
    once = cpu_seconds({"here": [os.getpid()]})
    assert ours - 0.05 <= once
    assert cpu_seconds({"here": [os.getpid()], "there": [os.getpid()]}) >= 2 * once


def test_tool_without_a_cell_is_a_dash() -> None:
    done = {"idle": 30.0, "load": outcome([40.0] * 100, 0, 8.0)}
    result = {
        "seconds": 8,
        "cells": {
            "a path; 0 % loss; 2 TCP": {"one": [done]},
            "a path; 0 % loss; 4 TCP": {"one": [done], "two": [done]},
        },
    }
    page = wan_to_markdown(result)
    (line,) = [line for line in page.splitlines() if "2 TCP" in line]
    assert line.endswith(" | 8.00, 1.00 | - | - |")


def test_wire_v1_is_measured_on_demand_only() -> None:
    assert set(wan.TOOLS) - set(wan.DEFAULT_TOOLS) == {"vknet, wire v1"}


@pytest.mark.parametrize(
    ("rates", "index"), [([5.0, 5.0, 5.0], 1.0), ([9.0, 0.0, 0.0], 1 / 3), ([0.0, 0.0], 0.0)]
)
def test_fairness_is_jains_index(rates: list[float], index: float) -> None:
    assert jain(rates) == pytest.approx(index)


def outcome(pings: Sequence[float], lost: int, *goodput: float) -> dict[str, Any]:
    timed = [(0.05 * number, ms) for number, ms in enumerate(pings)]
    return {"pings": timed, "lost": lost, "goodput": goodput, "flows": [1.0, 1.0]}


def test_page_of_slow_paths_has_medians_and_names_failures() -> None:
    result = {
        "seconds": 8,
        "cells": {
            "a path; 0 % loss; 2 TCP": {
                "fast": [
                    {"idle": 30.0, "load": outcome([40.0] * 99 + [900.0], 0, 8.0)},
                    {"idle": 31.0, "load": outcome([50.0] * 100, 0, 9.0)},
                    {"idle": 32.0, "load": outcome([60.0] * 50, 50, 10.0)},
                ],
                "slow": [{"idle": 30.0, "load": None}],
                "unanswered": [{"idle": 30.0, "load": outcome([], 100, 0.0)}],
            }
        },
    }
    page = wan_to_markdown(result)
    assert "in 1 to 3 rounds" in " ".join(page.split())
    (line,) = [line for line in page.splitlines() if "2 TCP" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:] == [
        "31, 50, **50** (16.7 % lost)",
        "9.00, 1.00",
        "failed",
        "-",
        "30, none answered",
        "-",
    ]
