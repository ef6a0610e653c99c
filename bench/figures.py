"""What is measured: the names of the figures, their units, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["BASELINE", "FIGURES", "LIMIT", "Figure", "Figures"]

# The tool that ratios are taken against, and what no tool over one ssh can pass.
BASELINE: Final = "ssh -w"
LIMIT: Final = "plain ssh pipe"

Figures = dict[str, float]
"""What one tool did in one round, by `Figure.key`; a figure that makes no sense for it is missing.
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure.

    Attributes:
        key: its name in JSON.
        title: its name for people, with the unit.
        digits: after the point.
        more_is_better: of the two directions.
        has_ratio: that it is so many times another one's says something.
    """

    key: str
    title: str
    digits: int = 0
    more_is_better: bool = True
    has_ratio: bool = True


FIGURES: Final = (
    Figure("tcp_there", "TCP →, Mbit/s"),
    Figure("tcp_here", "TCP ←, Mbit/s"),
    Figure("tcp_both", "TCP ⇄, sum, Mbit/s"),
    Figure("udp", "64-byte UDP, thousands/s", 1),
    Figure("rtt_p50", "idle RTT p50, ms", 2, more_is_better=False),
    Figure("rtt_p99", "idle RTT p99, ms", 2, more_is_better=False),
    Figure("cpu_per_gb", "CPU s per GB", 2, more_is_better=False),
    Figure("first_ping", "first ping, s", 2, more_is_better=False, has_ratio=False),
    Figure(
        "over_ssh_true",
        "… over `ssh host true`, s",
        2,
        more_is_better=False,
        has_ratio=False,
    ),
)
