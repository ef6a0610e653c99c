"""What the documents say is what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vknet
from vknet.arguments import HELP
from vknet.arguments import _parser as command_line

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
MANUAL = (ROOT / "docs/vknet.1").read_text()


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_example_of_the_readme_runs() -> None:
    example, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    output = run_python(example)
    assert "Up(peer='the peer', wire=2" in output
    assert "[b'a whole Ethernet frame']" in output
    assert "Direction(frames=1, bytes=22" in output


def test_the_example_of_the_package_runs() -> None:
    assert vknet.__doc__ is not None
    example = re.sub(
        "^    ", "", vknet.__doc__[vknet.__doc__.index("    import trio") :], flags=re.M
    )
    assert "[b'a whole Ethernet frame']" in run_python(example)


def test_everything_public_has_a_docstring_and_is_there() -> None:
    for name in vknet.__all__:
        thing = getattr(vknet, name)
        assert name == "__version__" or not callable(thing) or thing.__doc__, name


OPTIONS = sorted({option for action in command_line()._actions for option in action.option_strings})


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_in_the_help_the_readme_and_the_manual(option: str) -> None:
    pattern = rf"(?<![\w-]){re.escape(option)}(?![\w-])"
    assert re.search(pattern, HELP)
    if option != "-h":
        assert re.search(pattern, README)
    macro = option.removeprefix("-").replace("-", r"\-") if option.startswith("--") else option[1:]
    assert re.search(rf"Fl {re.escape(macro)}\b|Fl {re.escape(option[1:])}(?!\w)", MANUAL), macro


def test_the_help_fits_a_terminal() -> None:
    assert max(len(line) for line in HELP.splitlines()) <= 79


def test_every_file_the_readme_names_exists() -> None:
    for path in re.findall(r"`((?:vknet|testbed|tests|docs|demo)/[\w./-]*)`", README):
        assert (ROOT / path).exists(), path


def test_the_changelog_has_the_version() -> None:
    assert f"## {vknet.__version__}" in (ROOT / "CHANGELOG.md").read_text()
