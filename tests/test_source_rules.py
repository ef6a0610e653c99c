"""Rules for the source files that ruff and mypy do not check: suppressions, loggers, docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import vknet

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDERS: Final = ("vknet", "tests", "testbed", "bench", "demo", "fuzz")
SOURCES: Final = sorted(
    [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
)

SUPPRESSION: Final = re.compile(
    r"#\s*(?:noqa(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?|type:\s*ignore(?:\[[\w,\s-]+\])?)"
)
REASON: Final = re.compile(r"\s*(?:- |\(|# )\w.*\w.*")

# The commands' modules: they configure the logger of the package, and log through it.
COMMANDS: Final = ("vknet/cli/vknet.py", "vknet/cli/vknetd.py", "vknet/cli/vknetd_run.py")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- suppressions ---------------------------------------------------------------------------------


def unexplained(comment: str) -> list[str]:
    """Return the suppressions in a comment that no reason follows."""
    found = list(SUPPRESSION.finditer(comment))
    # A reason ends where the next suppression begins.
    ends = [*(match.start() for match in found), len(comment)][1:]
    return [
        match[0]
        for match, end in zip(found, ends, strict=False)
        if not REASON.fullmatch(comment[match.end() : end].rstrip())
    ]


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each comment with the number of its line."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_every_suppression_has_its_reason() -> None:
    assert [
        f"{name_of(path)}:{line}: {suppression}"
        for path in SOURCES
        for line, comment in comments(path)
        for suppression in unexplained(comment)
    ] == []


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "# noqa: B018",
        "# noqa: B018, S101",
        "#noqa:B018 -",
        "# type: ignore",
        "# type: ignore[assignment]",
        "# type: ignore[assignment]  # noqa: B018 - the access is the test",
    ],
)
def test_suppression_without_a_reason_is_found(comment: str) -> None:
    assert len(unexplained(comment)) == 1


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa: B018 - the access is the test",
        "# noqa: SIM110 (any() of a generator takes three times as long)",
        "# type: ignore[assignment]  # data may change",
        "# about other things",
    ],
)
def test_suppression_with_a_reason_is_accepted(comment: str) -> None:
    assert unexplained(comment) == []


# --- loggers --------------------------------------------------------------------------------------


def logger_names(path: Path) -> list[str]:
    """Return the arguments of all calls of `getLogger` in a file, as source text."""
    return [
        ", ".join(map(ast.unparse, node.args))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger")
    ]


LOGGERS: Final = {
    name_of(path): names
    for path in SOURCES
    if name_of(path).startswith("vknet/") and (names := logger_names(path))
}


@pytest.mark.parametrize("module", LOGGERS)
def test_logger_is_named_after_its_module(module: str) -> None:
    expected = "'vknet'" if module in COMMANDS else "__name__"
    assert LOGGERS[module] == [expected]


def test_loggers_are_found() -> None:
    assert {"vknet/transport/ssh.py", "vknet/link/link.py", *COMMANDS} <= set(LOGGERS)


def test_name_of_a_module_is_the_name_of_its_logger() -> None:
    from vknet.transport import ssh

    assert ssh.log.name == "vknet.transport.ssh"


# --- docstrings -----------------------------------------------------------------------------------

PUBLIC: Final = [name for name in vknet.__all__ if callable(getattr(vknet, name))]


def own_docstring(thing: Any) -> str | None:
    """Return the docstring that was written for a class or a function, not a generated one."""
    if not inspect.isclass(thing):
        return inspect.getdoc(thing)
    doc = thing.__dict__.get("__doc__")
    # The generated one of a dataclass is its name and its signature.
    if dataclasses.is_dataclass(thing) and (doc or "").startswith(f"{thing.__name__}("):
        return None
    return doc


def public_methods(thing: Any) -> list[str]:
    """Return the names of the methods and properties that a class defines or overrides."""
    kinds = (property, classmethod, staticmethod)
    return [
        name
        for name, member in vars(thing).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, kinds))
    ]


METHODS: Final = [
    f"{name}.{method}"
    for name in PUBLIC
    if inspect.isclass(getattr(vknet, name))
    for method in public_methods(getattr(vknet, name))
]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_class_or_function_has_a_docstring_of_its_own(name: str) -> None:
    assert own_docstring(getattr(vknet, name))


@pytest.mark.parametrize("name", METHODS)
def test_public_method_has_a_docstring_or_inherits_one(name: str) -> None:
    owner, method = name.split(".")
    # For an override without a docstring `getdoc` finds that of the method it replaces.
    assert inspect.getdoc(getattr(getattr(vknet, owner), method))


def test_generated_docstring_of_a_dataclass_does_not_count() -> None:
    @dataclasses.dataclass
    class Bare:
        number: int

    class Plain:
        pass

    assert (Bare.__doc__ or "").startswith("Bare(")
    assert own_docstring(Bare) is None
    assert own_docstring(Plain) is None
    assert own_docstring(vknet.Up)


def test_methods_are_found() -> None:
    assert {"Monitor.wait_for", "Endpoint.send", "Up.summary"} <= set(METHODS)
