"""Tracebacks of the remote side become one line each."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vknet.transport.tracebacks import TracebackFilter


def filtered(text: str) -> tuple[list[str], TracebackFilter]:
    """Return the lines to show, and the filter afterwards."""
    lines = TracebackFilter()
    shown = [shown for line in text.splitlines() if (shown := lines.feed(line)) is not None]
    return shown, lines


def stderr_of(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stderr


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        ("import no_such", "ModuleNotFoundError: No module named 'no_such'"),
        ("from itertools import nought", "ImportError: cannot import name 'nought' from 'iter"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("raise KeyError", "KeyError"),
        ("raise ExceptionGroup('x', [ValueError('a'), OSError('b: c')])", "OSError: b: c"),
        (
            "raise ExceptionGroup('x', [ExceptionGroup('y', [OSError('b')])])",
            "OSError: b",
        ),
    ],
)
def test_traceback_becomes_its_last_line(code: str, raised: str) -> None:
    shown, lines = filtered(f"before\n{stderr_of(code)}after\n")
    assert shown[0] == "before"
    assert shown[-1] == "after"
    (line,) = shown[1:-1]
    assert line.startswith(raised)
    assert lines.raised == line


def test_chain_of_tracebacks_becomes_one_line_each() -> None:
    code = "try:\n 1 / 0\nexcept ArithmeticError as e:\n raise KeyError(2) from e"
    shown, lines = filtered(stderr_of(code))
    assert [line for line in shown if line] == [
        "ZeroDivisionError: division by zero",
        "KeyError: 2",
    ]
    assert lines.raised == "KeyError: 2"


@pytest.mark.parametrize("said", ["bash: no such file", "vknet: no TAP: a reason", "two words"])
def test_line_of_another_program_is_no_exception(said: str) -> None:
    start = 'Traceback (most recent call last):\n  File "/x.py", line 1, in <module>\n'
    shown, lines = filtered(f"{start}{said}\n")
    assert shown == [said]
    assert lines.raised is None
    shown, lines = filtered(f"{start}{said}\n{start}    import y\nimp.YError: no\n")
    assert shown == [said, "imp.YError: no"]
    assert lines.raised == "imp.YError: no"


# As Python 2.7 and 3.6 print it.
OLD_SYNTAX = """\
Traceback (most recent call last):
  File "/usr/lib/python2.7/runpy.py", line 163, in _run_module_as_main
    mod_name, _Error)
  File "/usr/local/lib/vknet/__init__.py", line 106
    _HOMES: Final = {
          ^
SyntaxError: invalid syntax
"""

NO_PYROUTE2 = """\
  + Exception Group Traceback (most recent call last):
  |   File "/opt/vknet/bin/vknet", line 8, in <module>
  |     sys.exit(main())
  | ExceptionGroup: Exceptions from Trio nursery (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/opt/vknet/lib/python3.12/site-packages/vknet/endpoints/netlink.py", line 20
    |     import pyroute2
    | ModuleNotFoundError: No module named 'pyroute2'
    +------------------------------------
"""


@pytest.mark.parametrize(
    ("text", "raised", "python"),
    [
        (OLD_SYNTAX, "SyntaxError: invalid syntax", "2.7"),
        (NO_PYROUTE2, "ModuleNotFoundError: No module named 'pyroute2'", "3.12"),
    ],
)
def test_traceback_shows_the_version_of_python(text: str, raised: str, python: str) -> None:
    shown, lines = filtered(text)
    assert shown == [raised]
    assert lines.python == python


@pytest.mark.parametrize(
    "text",
    ["a line\n", "  an indented one\n", "vknet: no TAP: a reason\n", "| a table |\n+----+\n"],
)
def test_other_lines_are_unchanged(text: str) -> None:
    assert filtered(text)[0] == text.splitlines()
