"""A function in a process of its own: what crosses, and what happens where there can be none."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from vknet.aside import aside
from vknet.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path


@aside
def where(*, fail: bool = False) -> int:
    if fail:
        raise SetupError("the reason")
    return os.getpid()


@aside
def imported() -> set[str]:
    return set(sys.modules)


@aside
def dies(parent: int) -> str:
    if os.getpid() != parent:
        os._exit(3)
    return "here"


def test_it_runs_elsewhere() -> None:
    assert where() not in (os.getpid(), where())


def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(SetupError, match=r"^the reason$"):
        where(fail=True)


def test_the_other_process_has_no_more_than_it_needs() -> None:
    assert "trio" not in imported()


def test_it_runs_here_when_the_other_process_dies() -> None:
    assert dies(os.getpid()) == "here"


def test_it_runs_here_when_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert where() == os.getpid()


def test_nothing_is_imported_from_the_folder_one_is_in(tmp_path: Path) -> None:
    (tmp_path / "pickle.py").write_text("open('ran', 'w')")
    script = "from vknet import netlink; print(netlink.owned_taps())"
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert not (tmp_path / "ran").exists()
