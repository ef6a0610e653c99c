"""docs/demo.svg: the picture that demo/svg.py makes of a run of the demo."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

from demo.svg import Line, lines_of, record, to_svg

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/demo.svg"


def test_a_picture_has_the_lines_that_were_printed() -> None:
    lines = [Line(0, "two <hosts> & more"), Line(0.5, ""), Line(1.25, "  here# ip link")]
    svg = to_svg("$ make demo", lines)
    assert lines_of(svg) == [lines[0], lines[2]]
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.text]
    assert "two <hosts> & more" in texts


def test_a_command_is_recorded_line_by_line() -> None:
    lines = record([sys.executable, "-c", "print('one'); print(); print('two')"])
    assert [line.text for line in lines] == ["one", "", "two"]
    assert lines[0].seconds == 0


def test_each_kind_of_line_has_its_colour() -> None:
    lines = [Line(0, text) for text in ("a heading", "  here# true", "  | vknet: up", "  a result")]
    svg = to_svg("", lines)
    assert [svg.count(f'class="l {kind}"') for kind in "hcor"] == [1, 1, 1, 1]


def test_the_picture_in_the_documents_is_well_formed_and_small() -> None:
    root = ElementTree.fromstring(PICTURE.read_text())
    assert float(root.attrib["width"]) <= 900
    assert PICTURE.stat().st_size <= 12_000


def test_the_picture_in_the_documents_is_of_a_whole_run() -> None:
    texts = [line.text for line in lines_of(PICTURE.read_text())]
    assert any("vknet: link up" in text for text in texts)
    assert any("vknet: link lost: ssh was killed by SIGKILL" in text for text in texts)
    assert any(text.startswith("all cleaned up") for text in texts)
