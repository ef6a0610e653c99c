"""The messages and reasons in docs/troubleshooting.md are those of the program."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from vknet.counters import DropReason

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/troubleshooting.md").read_text()


def section(heading: str) -> str:
    return PAGE[PAGE.index(f"## {heading}\n") :].split("\n## ")[0]


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


OURS = first_cells(section("Messages").split("Messages of other programs")[0])


def texts_of_the_program() -> list[str]:
    """All constant strings in vknet/, what stands between the fields of an f-string included."""
    return [
        node.value
        for path in (ROOT / "vknet").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


TEXTS = texts_of_the_program()


@pytest.mark.parametrize("message", OURS)
def test_the_program_has_each_message(message: str) -> None:
    for part in filter(None, map(str.strip, message.split("…"))):
        assert any(part in text for text in TEXTS), part


def test_the_messages_were_found() -> None:
    assert len(OURS) >= 15


def test_every_reason_for_a_drop_is_in_the_table() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", section("Dropped frames"), re.MULTILINE)
    assert dict(rows) == {reason.value: reason.text for reason in DropReason}
