"""Blocking functions in a thread: results, errors, and the end of a child that hangs."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.isolated_functions import pid_of_callee
from vknet.endpoints import isolated as module
from vknet.endpoints.threads import run_in_thread
from vknet.errors import SetupError

if TYPE_CHECKING:
    import subprocess


async def test_stopped_child_is_killed_when_its_caller_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    children: list[subprocess.Popen[bytes]] = []
    start = module._start

    def recorded() -> subprocess.Popen[bytes]:
        children.append(start())
        return children[-1]

    monkeypatch.setattr(module, "CHILD_CODE", "import os; os.kill(os.getpid(), 19)")
    monkeypatch.setattr(module, "_start", recorded)
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_in_thread, pid_of_callee)
            while not children:  # noqa: ASYNC110 - the child starts in a thread
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert [child.returncode for child in children] == [-9]


async def test_result_and_error_of_a_thread_are_those_of_the_function() -> None:
    assert await run_in_thread(pid_of_callee) != os.getpid()
    with pytest.raises(SetupError, match=r"^the reason$"):
        await run_in_thread(partial(pid_of_callee, fail=True))
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 // 0)
