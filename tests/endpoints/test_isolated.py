"""Functions in a child process: what crosses the pipes, and what happens without a child."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.isolated_functions import pid_of_callee
from vknet.endpoints import isolated as module
from vknet.endpoints.isolated import Interrupt, dismiss, isolated, prestart
from vknet.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@isolated
def imported() -> set[str]:
    return set(sys.modules)


@isolated
def chatty(parent: int) -> bool:
    print("not the answer")
    return os.getpid() != parent


@isolated
def exits_without_an_answer(parent: int) -> str:
    if os.getpid() != parent:
        os._exit(0)
    return "here"


@isolated
def has_a_bug(parent: int) -> str:
    if os.getpid() != parent:
        raise ZeroDivisionError
    return "here"


@isolated
def exits_with_an_error(parent: int) -> str:
    if os.getpid() != parent:
        os._exit(3)
    return "here"


def test_each_call_runs_in_a_process_of_its_own() -> None:
    assert pid_of_callee() not in (os.getpid(), pid_of_callee())


def test_error_of_the_function_is_raised_in_the_caller() -> None:
    with pytest.raises(SetupError, match=r"^the reason$"):
        pid_of_callee(fail=True)


def test_child_does_not_import_trio() -> None:
    assert "trio" not in imported()


@pytest.mark.parametrize("function", [exits_with_an_error, exits_without_an_answer, has_a_bug])
def test_function_runs_in_the_caller_if_the_child_has_no_answer(
    function: Callable[[int], str],
) -> None:
    assert function(os.getpid()) == "here"


def test_output_of_the_function_is_not_part_of_the_answer() -> None:
    assert chatty(os.getpid())


@pytest.mark.parametrize("executable", ["", "/bin/true", "/bin/echo", "/nowhere"])
def test_function_runs_in_the_caller_if_the_executable_is_not_python(
    executable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert pid_of_callee() == os.getpid()


def test_child_starts_no_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VKNET_ISOLATED", "1")
    assert pid_of_callee() == os.getpid()


def test_path_object_on_sys_path_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    assert pid_of_callee() != os.getpid()


def test_function_runs_in_the_caller_if_no_process_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert pid_of_callee() == os.getpid()


@pytest.fixture
def prestarted() -> Iterator[list[subprocess.Popen[bytes]]]:
    yield module._prestarted
    for process in module._prestarted:
        process.communicate()
    module._prestarted.clear()


def test_prestarted_child_runs_exactly_the_next_call(
    prestarted: list[subprocess.Popen[bytes]],
) -> None:
    prestart()
    (process,) = prestarted
    assert pid_of_callee() == process.pid
    assert not prestarted
    assert process.returncode == 0
    assert pid_of_callee() not in (process.pid, os.getpid())


def test_prestarted_child_imports_modules_and_ignores_missing_ones(
    prestarted: list[subprocess.Popen[bytes]],
) -> None:
    prestart("vknet.nothing", "colorsys")
    assert prestarted
    assert "colorsys" in imported()
    assert "colorsys" not in imported()


def test_killed_prestarted_child_is_replaced(
    prestarted: list[subprocess.Popen[bytes]],
) -> None:
    prestart()
    (process,) = prestarted
    process.kill()
    assert pid_of_callee() not in (process.pid, os.getpid())


def test_unused_prestarted_child_is_ended_by_dismiss(
    prestarted: list[subprocess.Popen[bytes]],
) -> None:
    prestart()
    (process,) = prestarted
    dismiss()
    assert not prestarted
    assert process.returncode is not None


def test_child_prestarts_no_child(
    prestarted: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VKNET_ISOLATED", "1")
    prestart()
    assert not prestarted


def test_path_too_long_for_the_pipe_prestarts_no_child(
    prestarted: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, "x" * 200_000])
    prestart()
    assert not prestarted
    assert pid_of_callee() != os.getpid()


def is_running(pid: int) -> bool:
    """Whether the process is running; a zombie is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), 9)"], ids=["exit", "killed"])
def test_unused_prestarted_child_ends_with_its_parent(end: str) -> None:
    script = (
        "import os; from vknet.endpoints import isolated; isolated.prestart();"
        f"print(isolated._prestarted[0].pid, flush=True); {end}"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)


@pytest.mark.parametrize("executable", ["", "/nowhere"])
def test_prestart_is_a_no_op_if_no_child_can_be_started(
    executable: str, monkeypatch: pytest.MonkeyPatch, prestarted: list[subprocess.Popen[bytes]]
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    prestart()
    assert not prestarted


def test_child_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    for name in ("pickle.py", "sitecustomize.py", "usercustomize.py"):
        (tmp_path / name).write_text(f"open('{tmp_path}/ran', 'w')")
    script = (
        "from tests.endpoints.test_isolated import pid_of_callee; import os;"
        "print(pid_of_callee() != os.getpid())"
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


# --- a child that hangs ---------------------------------------------------------------------------

HANGS = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Let each child stop itself before it reads its call; return the children."""
    started: list[subprocess.Popen[bytes]] = []
    start = module._start

    def recorded() -> subprocess.Popen[bytes]:
        started.append(start())
        return started[-1]

    monkeypatch.setattr(module, "CHILD_CODE", HANGS)
    monkeypatch.setattr(module, "_start", recorded)
    return started


def test_stopped_child_is_killed_after_the_timeout(
    children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALL_TIMEOUT_S", 0.2)
    with pytest.raises(SetupError, match=r"did not answer within 0\.2 s; was it stopped"):
        pid_of_callee()
    assert [child.returncode for child in children] == [-9]


def test_interrupted_thread_starts_no_further_child(
    children: list[subprocess.Popen[bytes]],
) -> None:
    interrupt = Interrupt()
    interrupt.set()
    with pytest.raises(SetupError, match="interrupted"):
        interrupt.run(pid_of_callee)
    assert all(child.returncode == -9 for child in children)
