"""What an older Python, or one without the packages, says: one line."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# The files that an old Python compiles before the version is checked.
EARLY = ("vknet/__init__.py", "vknet/_old_python.py")

OLD_PYTHONS = sorted(
    path
    for folder in (Path.home() / ".pyenv/versions", Path("/usr/bin"))
    for path in folder.glob("*/bin/python" if folder.name == "versions" else "python[23]*")
    if path.resolve().name in ("python2.7", *(f"python3.{minor}" for minor in range(6, 11)))
)


def start(
    python: str | Path, *words: str, path: str | Path = ROOT
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(path)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return subprocess.run(
        [str(python), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", EARLY)
def test_first_files_are_valid_in_any_python(name: str) -> None:
    text = (ROOT / name).read_text()
    assert text.isascii()
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(
            node, ast.AnnAssign | ast.JoinedStr | ast.NamedExpr | ast.AsyncFunctionDef
        )
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None
        if isinstance(node, ast.ImportFrom):
            assert node.module != "__future__"


@pytest.mark.parametrize("name", ["vknet", "vknetd"])
def test_old_python_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    script = tmp_path / name
    script.write_text(
        "import sys\nsys.version_info = (3, 9, 18)\nfrom vknet.cli.vknet import main\nmain()\n"
    )
    done = start(sys.executable, str(script), "-S", "auto")
    assert done.returncode == 1
    assert done.stderr == (
        f"{name}: Python 3.11 or later is needed, and this is 3.9.18 ({sys.executable})\n"
    )


def test_library_in_an_old_python_is_an_import_error(tmp_path: Path) -> None:
    script = tmp_path / "program"
    script.write_text(
        "import sys\nsys.version_info = (3, 9, 18)\n"
        "try:\n    import vknet\nexcept ImportError as exc:\n    print(exc)\n"
    )
    done = start(sys.executable, str(script))
    assert done.stdout.startswith("vknet: Python 3.11 or later is needed, and this is 3.9.18")


@pytest.mark.parametrize("python", OLD_PYTHONS, ids=str)
def test_real_old_python_refuses_in_one_line(python: Path, tmp_path: Path) -> None:
    script = tmp_path / "vknet"
    script.write_text("from vknet.cli.vknet import main\nmain()\n")
    for words in ((str(script),), ("-m", "vknet")):
        done = start(python, *words, "-S", "auto")
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("vknet: Python 3.11 or later is needed, and this is ")


@pytest.mark.parametrize(
    ("command", "missing", "arguments"),
    [
        ("vknet", "trio", ("-S", "/nonexistent/socket")),
        ("vknet", "pyroute2", ("-S", "auto")),
        ("vknetd", "trio", ("-t", "none", "-p", "/nonexistent/socket")),
    ],
)
def test_missing_package_is_one_line(
    tmp_path: Path, command: str, missing: str, arguments: tuple[str, ...]
) -> None:
    script = tmp_path / command
    script.write_text(
        "import importlib.util, sys\nfind = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name: None if name == {missing!r} else find(name)\n"
        f"from vknet.cli.{command} import main\nmain()\n"
    )
    done = start(sys.executable, str(script), *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{command}: the Python package {missing} is missing; install it for ")
