"""The figures of `make bench`: their names, their units, and which direction is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["BASELINE", "FIGURES", "SSH_PIPE", "Figure", "Figures"]

# The tool that ratios refer to, and the upper bound of every tool that uses one ssh connection.
BASELINE: Final = "ssh -w"
SSH_PIPE: Final = "plain ssh pipe"

Figures = dict[str, float]
"""The results of one tool in one round, by `Figure.key`.  Some tools do not have all of them."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of one tool.

    Attributes:
        key: its name in JSON.
        title: its name for people, with the unit.
        digits: digits after the decimal point.
        more_is_better: whether a larger value is better.
        has_ratio: whether a ratio of two values is of use.
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
        "first ping less `ssh host true`, s",
        2,
        more_is_better=False,
        has_ratio=False,
    ),
)
