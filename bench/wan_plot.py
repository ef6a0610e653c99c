"""The plot of a run on long and slow paths: round trips over time, and their distribution.

python -m bench.wan_plot docs/benchmarks-wan.json docs/benchmarks-wan.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot

__all__ = ["draw"]

COLOURS: Final = {"vknet": "#1f6f8b", "ssh -w": "#c8553d", "bare path": "#a9b4bd"}

# The cells that are drawn; the table has all of them.
DRAWN_CELLS: Final = (
    "10 Mbit/s, 30 ms; 0 % loss; 8 TCP",
    "10 Mbit/s, 30 ms; 0 % loss; 8 TCP both ways",
    "10 Mbit/s, 30 ms; 0 % loss; UDP at 2x",
    "100 Mbit/s, 100 ms; 0 % loss; 8 TCP",
)


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw one row per cell into a PNG: the first round over time, and all rounds as a CDF."""
    mpl.use("Agg")
    cells = [cell for cell in DRAWN_CELLS if cell in result["cells"]] or list(result["cells"])[:4]
    figure, grid = pyplot.subplots(
        len(cells), 2, figsize=(13, 2.6 * len(cells)), squeeze=False, layout="constrained"
    )
    for (over_time, cdf), cell in zip(grid, cells, strict=True):
        for name, rounds in result["cells"][cell].items():
            loads = [done["load"] for done in rounds if done["load"] is not None]
            if not loads:
                continue
            style = {"color": COLOURS.get(name, "#444"), "label": name, "linewidth": 1.3}
            over_time.plot(*zip(*loads[0]["pings"], strict=True), **style)
            times = sorted(ms for load in loads for _, ms in load["pings"])
            cdf.plot(times, [(n + 1) / len(times) for n in range(len(times))], **style)
        over_time.set_title(cell, fontsize=10, loc="left")
        over_time.set_xlabel("seconds", fontsize=8)
        over_time.set_ylabel("round trip, ms", fontsize=8)
        over_time.set_yscale("log")
        cdf.set_title("CDF of the round trips", fontsize=10, loc="left")
        cdf.set_xlabel("round trip, ms", fontsize=8)
        cdf.set_xscale("log")
        for panel in (over_time, cdf):
            panel.tick_params(labelsize=8)
            panel.grid(visible=True, alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
    grid[0][1].legend(fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    draw(json.loads(source.read_text()), target)


if __name__ == "__main__":
    main()
