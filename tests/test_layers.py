"""The layout of the package: which package may import which, and what a pure module loads.

docs/architecture.md explains the layers.  A module beside the packages counts as one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent

# From the bottom to the top.  A package may import those of the layers below, and within its layer
# only those of its own group.
LAYERS: Final = (
    ({"errors", "counters", "exit_codes", "spec", "_version", "_lazy", "_old_python"},),
    ({"packet"},),
    ({"wire", "framing"}, {"congestion"}, {"qdisc"}),
    ({"endpoints"}, {"transport"}),
    ({"link", "monitor"}, {"switch"}, {"sim"}, {"capture"}),
    ({"vknetd"},),
    ({"cli"},),
    ({"__init__", "__main__"},),
)
PACKET_MAY_IMPORT: Final = {"errors", "counters"}

PACKAGES_MAX: Final = 25
LAYERS_MAX: Final = 8
LINES_MAX: Final = 400

PURE_PACKAGES: Final = (
    {"errors", "counters", "exit_codes", "spec", "packet", "wire"}
    | {"framing", "congestion", "qdisc"}
)  # fmt: skip
NOT_PURE: Final = ("trio", "socket", "subprocess", "ctypes")

MODULES: Final = sorted((ROOT / "vknet").rglob("*.py"))


def name_of(path: Path) -> str:
    """``vknet.wire.hello``; a package's own module is named ``vknet.wire.__init__``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def package_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@cache
def imports_of(path: Path) -> frozenset[str]:
    """The modules of vknet that a module names in its imports, those for type checkers included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module}
            directory = ROOT.joinpath(*node.module.split("."))
            if directory.is_dir():
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in found if name.split(".")[0] == "vknet")


def arrows() -> Iterator[tuple[str, str, str]]:
    """Module, its package, and a package that it imports."""
    for path in MODULES:
        module = name_of(path)
        package = package_of(module)
        for imported in sorted(imports_of(path)):
            if imported != "vknet":
                target = package_of(imported)
                if target != package:
                    yield module, package, target


def place_of(package: str) -> tuple[int, int]:
    for number, layer in enumerate(LAYERS):
        for beside, group in enumerate(layer):
            if package in group:
                return number, beside
    raise AssertionError(f"the package {package} has no place in LAYERS")


def test_every_import_points_downwards() -> None:
    wrong = []
    for module, package, target in arrows():
        layer, group = place_of(package)
        target_layer, target_group = place_of(target)
        same_group = layer == target_layer and group == target_group
        if not (target_layer < layer or same_group):
            wrong.append(f"{module} imports {target}")
        if package == "packet" and target not in PACKET_MAY_IMPORT:
            wrong.append(f"{module} imports {target}")
    assert not wrong


def test_no_module_imports_the_package_itself() -> None:
    assert not [name_of(path) for path in MODULES if "vknet" in direct_imports(path)]


def direct_imports(path: Path) -> set[str]:
    """What is imported from ``vknet`` itself, not from a module in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "vknet":
            found |= {
                "vknet"
                for alias in node.names
                if not (ROOT / "vknet" / alias.name).is_dir()
                and not (ROOT / "vknet" / f"{alias.name}.py").exists()
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name == "vknet"}
    return found


def test_packages_and_layers_are_few() -> None:
    below: dict[str, set[str]] = {package_of(name_of(path)): set() for path in MODULES}
    for _, package, target in arrows():
        below[package].add(target)

    @cache
    def layer(package: str) -> int:
        return 1 + max((layer(target) for target in below[package]), default=0)

    assert len(below) <= PACKAGES_MAX, sorted(below)
    assert max(map(layer, below)) <= LAYERS_MAX


def is_pure(path: Path) -> bool:
    """Whether a module is in a pure package, or says of itself that it is pure."""
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    return package_of(name_of(path)) in PURE_PACKAGES or re.search(r"\bPure\b", doc) is not None


@pytest.mark.parametrize("module", [name_of(path) for path in MODULES if is_pure(path)])
def test_pure_module_loads_no_io(module: str) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import {module}
print(*sorted(set({NOT_PURE}) & set(sys.modules)))
"""
    # -S: no site-packages, where coverage has a hook that loads socket.
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX
