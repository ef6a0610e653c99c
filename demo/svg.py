"""The picture in README.md: the output of a real run of the demo, as an animated SVG.

    sudo make demo
    sudo .venv/bin/python -m demo.svg docs/demo.svg

Each line appears at the time at which it appeared in the run.  Where there is no animation (print,
other renderers, reduced motion), all lines are visible at once.  The picture has its own
background, so it is legible on light pages and on dark ones.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, unescape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Line", "lines_of", "record", "to_svg"]

# A character of the fonts below is about 0.6 em wide.
FONT_SIZE_PX: Final = 13
CHARACTER_WIDTH_PX: Final = 7.9
LINE_HEIGHT_PX: Final = 18
MARGIN_PX: Final = 16
TITLE_HEIGHT_PX: Final = 28

STYLE: Final = """\
text{font:13px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}
.t{fill:#8b949e}.h{fill:#f0f6fc;font-weight:bold}.c{fill:#7ee787}.o{fill:#79c0ff}.r{fill:#c9d1d9}
.l{animation:a .15s both}
@keyframes a{from{opacity:0}}
@media (prefers-reduced-motion:reduce){.l{animation:none}}"""

# The CSS class of a line by its begin: a command, a message of vknet, a result; else a heading.
KINDS: Final = ((re.compile(r"  \w+# "), "c"), (re.compile(r"  \| "), "o"), (re.compile(" "), "r"))
HEADING: Final = "h"

LINE: Final = re.compile(
    r'<text class="l \w" x="\d+" y="\d+" style="animation-delay:([\d.]+)s">(.*)</text>'
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output.

    Attributes:
        seconds: its time after the first line, rounded to 0.01 s.
        text: its text, without the newline.
    """

    seconds: float
    text: str


def record(command: Sequence[str]) -> list[Line]:
    """Run a command; print its output, and return it line by line.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    lines: list[Line] = []
    began = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        if process.stdout is None:
            raise AssertionError("stdout is a pipe")
        for raw in process.stdout:
            now = time.monotonic()
            began = began or now
            sys.stdout.write(raw)
            lines.append(Line(round(now - began, 2), raw.rstrip("\n")))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return lines


def to_svg(title: str, lines: Sequence[Line]) -> str:
    """Draw a terminal with a title and these lines.

    An empty line has half the height of another one.
    """
    width = round(2 * MARGIN_PX + CHARACTER_WIDTH_PX * max(len(line.text) for line in lines))
    y = float(TITLE_HEIGHT_PX + MARGIN_PX)
    body = []
    for line in lines:
        if not line.text:
            y += LINE_HEIGHT_PX / 2
            continue
        body.append(
            f'<text class="l {_kind(line.text)}" x="{MARGIN_PX}" y="{y:.0f}"'
            f' style="animation-delay:{line.seconds:g}s">{escape(line.text)}</text>'
        )
        y += LINE_HEIGHT_PX
    height = round(y - LINE_HEIGHT_PX + FONT_SIZE_PX + MARGIN_PX / 2)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    frame = f'width="{width - 1}" height="{height - 1}" rx="8" fill="#0d1117" stroke="#6e7681"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} xml:space="preserve">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect x=".5" y=".5" {frame}/>',
        f'<text class="t" x="{MARGIN_PX}" y="{MARGIN_PX + 4}">{escape(title)}</text>',
    ]
    return "\n".join((*head, *body, "</svg>\n"))


def lines_of(svg: str) -> list[Line]:
    """Return the lines of a picture, without the empty ones."""
    return [Line(float(seconds), unescape(text)) for seconds, text in LINE.findall(svg)]


def _kind(text: str) -> str:
    return next((kind for pattern, kind in KINDS if pattern.match(text)), HEADING)


def main(argv: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.svg", description=__doc__)
    parser.add_argument("file", type=Path, help="the SVG to write")
    arguments = parser.parse_args(None if argv is None else list(argv))
    lines = record([sys.executable, "-u", "-m", "demo"])
    arguments.file.write_text(to_svg("$ sudo make demo", lines))


if __name__ == "__main__":
    main()
