"""The plot of a run: one panel per figure, one bar per tool, with the span of its rounds.

python -m bench.plot docs/benchmarks.json docs/benchmarks.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot

from bench.figures import FIGURES, SSH_PIPE, Figure

__all__ = ["draw"]

COLUMNS: Final = 3
VKNET_COLOUR: Final = "#1f6f8b"
OTHER_COLOUR: Final = "#a9b4bd"
SSH_PIPE_COLOUR: Final = "#d9cbb2"

PANELS: Final = tuple(figure for figure in FIGURES if figure.key != "first_ping")


def colour(name: str) -> str:
    if name == SSH_PIPE:
        return SSH_PIPE_COLOUR
    return VKNET_COLOUR if name.startswith("vknet") else OTHER_COLOUR


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw a result of `bench.report.to_json` into a PNG.  The last panel is memory."""
    mpl.use("Agg")
    rows = -(-(len(PANELS) + 1) // COLUMNS)
    tools = result["tools"]
    figure, grid = pyplot.subplots(rows, COLUMNS, figsize=(13, 0.4 * rows * (len(tools) + 2)))
    panels: list[Any] = list(grid.flat)
    for panel, what in zip(panels, PANELS, strict=False):
        draw_figure(panel, what, tools)
    draw_memory(panels[len(PANELS)], tools)
    for panel in panels[len(PANELS) + 1 :]:
        panel.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_figure(panel: Any, what: Figure, tools: dict[str, Any]) -> None:
    names = [name for name in tools if what.key in tools[name]["medians"]]
    medians = [tools[name]["medians"][what.key] for name in names]
    rounds = [[each[what.key] for each in tools[name]["rounds"]] for name in names]
    spans = [
        [middle - min(each) for middle, each in zip(medians, rounds, strict=True)],
        [max(each) - middle for middle, each in zip(medians, rounds, strict=True)],
    ]
    direction = "higher" if what.more_is_better else "lower"
    title = f"{what.title.replace('`', '')}: {direction} is better"
    bars(panel, names, medians, title, what.digits, spans)


def draw_memory(panel: Any, tools: dict[str, Any]) -> None:
    names = [name for name in tools if tools[name]["memory"]]
    peaks = [max(side["peak"] for side in tools[name]["memory"].values()) for name in names]
    bars(panel, names, peaks, "resident memory, larger side, MB: lower is better", 0, None)


def bars(
    panel: Any,
    names: list[str],
    values: list[float],
    title: str,
    digits: int,
    spans: list[list[float]] | None,
) -> None:
    drawn = panel.barh(
        names, values, color=[colour(name) for name in names], xerr=spans, ecolor="#444"
    )
    panel.bar_label(drawn, fmt=f"%.{digits}f", padding=4, fontsize=8)
    panel.invert_yaxis()
    panel.set_title(title, fontsize=10, loc="left")
    panel.tick_params(labelsize=8)
    panel.margins(x=0.15)
    panel.spines[["top", "right"]].set_visible(False)


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    draw(json.loads(source.read_text()), target)


if __name__ == "__main__":
    main()
