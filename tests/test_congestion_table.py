"""The table of docs/congestion.md has every tuning constant of these modules, with its value.

A row names its module below `vknet`, such as `congestion.window`, so a module that moves is one
substitution in the document.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
TEXT: Final = (ROOT / "docs/congestion.md").read_text()

ROW: Final = re.compile(
    r"^\| `(?P<name>[A-Z][A-Z_]*)` \| `(?P<module>[\w.]+)` \| [^|]+ \| `(?P<value>[^`]+)` \|"
    r" [^|]+ \| (?P<tests>[^|]+) \|$",
    re.MULTILINE,
)

NOT_TUNING: Final = frozenset(
    # Facts of the ACK's format, and of the end of a link.
    ("MICROSECONDS_PER_S", "STAMP_MODULUS", "STAMP_MASK", "BYE_TIMEOUT_S")
)


class Row(NamedTuple):
    """One constant, as the document has it."""

    module: str
    name: str
    value: object
    tests: tuple[str, ...]


ROWS: Final = [
    Row(
        found["module"],
        found["name"],
        ast.literal_eval(found["value"]),
        tuple(re.findall(r"`(\w+)`", found["tests"])),
    )
    for found in ROW.finditer(TEXT)
]
MODULES: Final = sorted({row.module for row in ROWS})
each_row = pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row.module}.{row.name}") for row in ROWS]
)


def constants(module: str) -> set[str]:
    """The names of the numbers that a module defines in capitals, those of tuples included."""
    found = importlib.import_module(f"vknet.{module}")
    names = {
        node.target.id
        for node in ast.parse(inspect.getsource(found)).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return {
        name
        for name in names
        if name.isupper() and isinstance(getattr(found, name), int | float | tuple)
    }


def test_every_line_of_the_table_is_a_row() -> None:
    table = TEXT[TEXT.index("| Name | Module |") : TEXT.index("## References")]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(ROWS) == len(lines) - 2


@each_row
def test_constant_has_the_value_in_the_table(row: Row) -> None:
    assert getattr(importlib.import_module(f"vknet.{row.module}"), row.name) == row.value


@pytest.mark.parametrize("module", MODULES)
def test_table_has_every_constant_of_the_module_once(module: str) -> None:
    names = [row.name for row in ROWS if row.module == module]
    assert sorted(names) == sorted(constants(module) - NOT_TUNING)


@each_row
def test_test_named_in_the_table_exists(row: Row) -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for test in row.tests:
        assert f"def {test}(" in sources


def test_every_constant_that_the_text_names_is_in_the_table() -> None:
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", TEXT))
    assert named == {row.name for row in ROWS}
