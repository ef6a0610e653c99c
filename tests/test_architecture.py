"""What docs/architecture.md names is in the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
TEXT: Final = (ROOT / "docs/architecture.md").read_text()
SPANS: Final = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))

MODULES: Final = [*(ROOT / "vknet").rglob("*.py"), *(ROOT / "tests/support").rglob("*.py")]


def defined() -> set[str]:
    """Every function and class, and methods and attributes as ``Class.method``."""
    names: set[str] = set()
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names.add(node.name)
            elif isinstance(node, ast.ClassDef):
                names.add(node.name)
                names |= {
                    f"{node.name}.{method.name}"
                    for method in ast.walk(node)
                    if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef))
                }
                names |= {
                    f"{node.name}.{target.attr}"
                    for target in ast.walk(node)
                    if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
                }
    return names


DEFINED: Final = defined()
PATHS: Final = [
    span for span in SPANS if re.fullmatch(r"[\w.-]+/[\w./-]*|[\w-]+\.(py|md|1|8)", span)
]
METHODS: Final = [span for span in SPANS if re.fullmatch(r"[A-Z]\w+\.\w+", span)]
FUNCTIONS: Final = [
    span
    for span in SPANS
    if re.fullmatch(r"[a-z]+(_[a-z]+)+", span) and span not in ("exit_codes", "send_all")
]


@pytest.mark.parametrize("path", PATHS)
def test_path_in_architecture_exists(path: str) -> None:
    places = [ROOT / "vknet" / path, ROOT / path, ROOT / "docs" / path]
    places += [directory / path for directory in (ROOT / "vknet").iterdir() if directory.is_dir()]
    assert any(place.exists() for place in places)


@pytest.mark.parametrize("name", [*METHODS, *FUNCTIONS])
def test_name_in_architecture_is_defined(name: str) -> None:
    methods = {entry.split(".")[-1] for entry in DEFINED}
    assert name in DEFINED or ("." not in name and name in methods)


def test_architecture_names_the_code() -> None:
    assert len(PATHS) > 30
    assert len(METHODS) > 15
    assert len(FUNCTIONS) > 5
