"""A function in a process of its own: what crosses, and what happens where there can be none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vknet.endpoints import isolated as module
from vknet.endpoints.isolated import dismiss, isolated, prestart
from vknet.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@isolated
def where(*, fail: bool = False) -> int:
    if fail:
        raise SetupError("the reason")
    return os.getpid()


@isolated
def imported() -> set[str]:
    return set(sys.modules)


@isolated
def chatty(parent: int) -> bool:
    print("not the answer")
    return os.getpid() != parent


@isolated
def dies_in_peace(parent: int) -> str:
    if os.getpid() != parent:
        os._exit(0)
    return "here"


@isolated
def has_a_bug(parent: int) -> str:
    if os.getpid() != parent:
        raise ZeroDivisionError
    return "here"


@isolated
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


@pytest.mark.parametrize("function", [dies, dies_in_peace, has_a_bug])
def test_it_runs_here_when_the_other_process_has_no_answer(
    function: Callable[[int], str],
) -> None:
    assert function(os.getpid()) == "here"


def test_what_is_printed_there_is_not_the_answer() -> None:
    assert chatty(os.getpid())


@pytest.mark.parametrize("executable", ["", "/bin/true", "/bin/echo", "/nowhere"])
def test_it_runs_here_when_python_is_not_python(
    executable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert where() == os.getpid()


def test_a_program_that_starts_itself_instead_does_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VKNET_ASIDE", "1")
    assert where() == os.getpid()


def test_what_is_no_path_on_the_path_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    assert where() != os.getpid()


def test_it_runs_here_when_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert where() == os.getpid()


@pytest.fixture
def prepared() -> Iterator[list[subprocess.Popen[bytes]]]:
    yield module._prepared
    for process in module._prepared:
        process.communicate()
    module._prepared.clear()


def test_one_that_was_prepared_runs_the_next_function_and_no_other(
    prepared: list[subprocess.Popen[bytes]],
) -> None:
    prestart()
    (process,) = prepared
    assert where() == process.pid
    assert not prepared
    assert process.returncode == 0
    assert where() not in (process.pid, os.getpid())


def test_one_that_was_prepared_imports_what_it_can(
    prepared: list[subprocess.Popen[bytes]],
) -> None:
    prestart("vknet.nothing", "colorsys")
    assert prepared
    assert "colorsys" in imported()
    assert "colorsys" not in imported()


def test_one_that_was_prepared_and_has_died_is_no_harm(
    prepared: list[subprocess.Popen[bytes]],
) -> None:
    prestart()
    (process,) = prepared
    process.kill()
    assert where() not in (process.pid, os.getpid())


def test_one_that_was_prepared_in_vain_is_dismissed(
    prepared: list[subprocess.Popen[bytes]],
) -> None:
    prestart()
    (process,) = prepared
    dismiss()
    assert not prepared
    assert process.returncode is not None


def test_what_is_started_aside_prepares_none(
    prepared: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VKNET_ASIDE", "1")
    prestart()
    assert not prepared


def test_a_path_too_long_for_the_pipe_holds_nobody_up(
    prepared: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, "x" * 200_000])
    prestart()
    assert not prepared
    assert where() != os.getpid()


def is_running(pid: int) -> bool:
    """Whether it is; one whose new parent has not asked for its status is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), 9)"], ids=["exit", "killed"])
def test_one_that_was_prepared_in_vain_ends_with_us(end: str) -> None:
    script = (
        "import os; from vknet.endpoints import isolated; isolated.prestart();"
        f"print(isolated._prepared[0].pid, flush=True); {end}"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)


@pytest.mark.parametrize("executable", ["", "/nowhere"])
def test_where_none_can_be_started_none_is_prepared(
    executable: str, monkeypatch: pytest.MonkeyPatch, prepared: list[subprocess.Popen[bytes]]
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    prestart()
    assert not prepared


def test_nothing_is_imported_from_the_folder_one_is_in(tmp_path: Path) -> None:
    for name in ("pickle.py", "sitecustomize.py", "usercustomize.py"):
        (tmp_path / name).write_text(f"open('{tmp_path}/ran', 'w')")
    script = (
        "from tests.endpoints.test_isolated import where; import os; print(where() != os.getpid())"
    )
    repository = Path(__file__).parents[2]
    command = [
        sys.executable,
        "-I",
        "-c",
        f"import sys; sys.path.append({str(repository)!r});{script}",
    ]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
    assert not (tmp_path / "ran").exists()
