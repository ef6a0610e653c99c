"""The end of a command that lacks memory, descriptors or threads."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import logging, threading, trio
from vknet.cli.last_words import run_to_the_end
from vknet.cli.logs import background_log
log = logging.getLogger("vknet")

async def clean_up_for_ever():
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)

async def fail():
    {failure}

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clean_up_for_ever)
        nursery.start_soon(fail)

with background_log(log, "vknet"):
    status = run_to_the_end(log, "vknet", lambda: trio.run(main))
raise SystemExit(status)
"""


def ends_with(failure: str) -> str:
    """Run a command that fails in a task; return what it wrote to stderr."""
    script = SCRIPT.replace("{failure}", failure)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        ("raise MemoryError", "out of memory"),
        ("raise OSError(12, 'Cannot allocate memory')", "out of memory"),
        ("raise OSError(24, 'Too many open files')", "too many open files"),
        ('raise RuntimeError("can\'t start new thread")', "no thread can be started"),
        ("raise trio.TrioInternalError from MemoryError()", "out of memory"),
        # In a thread of its own, such as that of the log.
        (
            "threading.Thread(target=lambda: bytes(1 << 60)).start(); await trio.sleep_forever()",
            "out of memory",
        ),
    ],
)
def test_lack_of_something_is_one_line(failure: str, text: str) -> None:
    (line,) = ends_with(failure).splitlines()
    assert line.startswith(f"vknet: {text}")


@pytest.mark.parametrize("is_full", [False, True])
def test_last_line_leaves_stderr_blocking_and_waits_for_no_reader(is_full: bool) -> None:
    reader, writer = os.pipe()
    try:
        if is_full:
            os.set_blocking(writer, False)
            with suppress(BlockingIOError):
                while True:
                    os.write(writer, bytes(4096))
            os.set_blocking(writer, True)
        script = SCRIPT.replace("{failure}", "raise MemoryError")
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=ROOT, stderr=writer, check=False, timeout=60)
        assert done.returncode == 1
        assert os.get_blocking(writer)
    finally:
        os.close(reader)
        os.close(writer)


def test_mistake_in_the_program_is_logged_with_its_traceback() -> None:
    lines = ends_with("1 // 0").splitlines()
    assert all(line.startswith("vknet: ") for line in lines)
    assert any("ZeroDivisionError" in line for line in lines)


@pytest.mark.parametrize("module", ["vknet", "vknetd"])
def test_handlers_of_signals_do_not_wait_for_slow_imports(module: str) -> None:
    code = (
        "import sys; before = set(sys.modules);"
        f"import vknet.cli.{module}; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        # -S: no site-packages, where coverage has a hook that imports more.
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}",
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"typing", "logging", "argparse", "trio", "pathlib", "contextlib"}
