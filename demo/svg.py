"""A picture of the demo for README.md: what a real run prints, as an animated SVG.

    sudo make demo
    sudo .venv/bin/python -m demo.svg docs/demo.svg

Each line appears when it appeared in that run. Without animations (print, other renderers, reduced
motion) all lines are there at once. The picture has a background of its own, so that it can be read
on a light page and on a dark one.
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

# In pixels; a character of the fonts below is 0.6 em wide, to within a few per cent.
FONT_SIZE: Final = 13
CHARACTER_WIDTH: Final = 7.9
LINE_HEIGHT: Final = 18
MARGIN: Final = 16
TITLE_HEIGHT: Final = 28

STYLE: Final = """\
text{font:13px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}
.t{fill:#8b949e}.h{fill:#f0f6fc;font-weight:bold}.c{fill:#7ee787}.o{fill:#79c0ff}.r{fill:#c9d1d9}
.l{animation:a .15s both}
@keyframes a{from{opacity:0}}
@media (prefers-reduced-motion:reduce){.l{animation:none}}"""

# The class of a line by how it begins: a typed command, what vknet says, a result, a heading.
KINDS: Final = ((re.compile(r"  \w+# "), "c"), (re.compile(r"  \| "), "o"), (re.compile(" "), "r"))
HEADING: Final = "h"

LINE: Final = re.compile(
    r'<text class="l \w" x="\d+" y="\d+" style="animation-delay:([\d.]+)s">(.*)</text>'
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that a program printed.

    Attributes:
        seconds: when, from the first line on, to a hundredth.
        text: without its end.
    """

    seconds: float
    text: str


def record(command: Sequence[str]) -> list[Line]:
    """Run a command, and show what it prints.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    lines: list[Line] = []
    began = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        if process.stdout is None:
            raise AssertionError("asked for as a pipe")
        for raw in process.stdout:
            now = time.monotonic()
            began = began or now
            sys.stdout.write(raw)
            lines.append(Line(round(now - began, 2), raw.rstrip("\n")))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return lines


def to_svg(title: str, lines: Sequence[Line]) -> str:
    """The picture of a terminal with these lines; the title stands above them.

    An empty line separates, and takes half the height of another one.
    """
    width = round(2 * MARGIN + CHARACTER_WIDTH * max(len(line.text) for line in lines))
    y = float(TITLE_HEIGHT + MARGIN)
    body = []
    for line in lines:
        if not line.text:
            y += LINE_HEIGHT / 2
            continue
        body.append(
            f'<text class="l {_kind(line.text)}" x="{MARGIN}" y="{y:.0f}"'
            f' style="animation-delay:{line.seconds:g}s">{escape(line.text)}</text>'
        )
        y += LINE_HEIGHT
    height = round(y - LINE_HEIGHT + FONT_SIZE + MARGIN / 2)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    frame = f'width="{width - 1}" height="{height - 1}" rx="8" fill="#0d1117" stroke="#6e7681"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} xml:space="preserve">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect x=".5" y=".5" {frame}/>',
        f'<text class="t" x="{MARGIN}" y="{MARGIN + 4}">{escape(title)}</text>',
    ]
    return "\n".join((*head, *body, "</svg>\n"))


def lines_of(svg: str) -> list[Line]:
    """The lines that a picture shows, without the empty ones."""
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
