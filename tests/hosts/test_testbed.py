"""The test bed itself: what it starts ends, also when it does not become ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import testbed.host
from testbed.host import Host

if TYPE_CHECKING:
    from pathlib import Path


def test_host_that_does_not_start_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eventually = testbed.host.eventually

    def time_out(check: object, what: str, *_: object) -> None:
        if what.startswith("the first process"):
            raise AssertionError(what)
        eventually(check, what)  # type: ignore[arg-type]  # it is called as it was

    monkeypatch.setattr(testbed.host, "eventually", time_out)
    host = Host("late", tmp_path)
    with pytest.raises(AssertionError, match="the first process of late"), host:
        pass
    assert host._holder is not None
    assert host._holder.returncode is not None


def test_host_whose_set_up_fails_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testbed.host, "SET_UP", "sleep 1000 >/dev/null 2>&1 & exit 1")
    host = Host("broken", tmp_path)
    with pytest.raises(AssertionError, match="status 1"), host:
        pass
    assert host._holder is not None
    assert host._holder.returncode is not None
    assert host.processes() == []
