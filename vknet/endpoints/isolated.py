"""A function that is run in a process of its own, for what it would leave behind in this one.

pyroute2 is needed for the twentieth part of a second when a link is made, and would then stay: a
quarter of all the memory that a link has.  The process is another Python, isolated from everything
but this one's path; it is told through a pipe what to call, and answers through another.  Where
none can be started, or it ends without an answer, whatever the reason, the function is called here.

Who knows that one will be needed can have it started beforehand (`prestart`): it imports what it
needs while this process does the same, which is a quarter of a second until the first frame.  It
waits for what it is told to call; it ends when it is dismissed, or with this process, by the end of
its pipe.
"""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
from contextlib import suppress
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from vknet.errors import VknetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["dismiss", "isolated", "prestart"]

P = ParamSpec("P")
T = TypeVar("T")

# -I: neither the folder somebody is in, nor the environment, nor the user's own packages have a
# say before the path is the one that this process trusts.
BOOT: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer);"
    " from vknet.endpoints.isolated import main; main()"
)

# In the environment of such a process.  Where `sys.executable` is no Python, but a program that has
# one in it, that program would start itself again, and again.
MARK: Final = "VKNET_ASIDE"

# Started beforehand, and not used yet.
_prepared: list[subprocess.Popen[bytes]] = []


def isolated(function: Callable[P, T]) -> Callable[P, T]:
    """Have a function run in a process of its own; a decorator.

    It blocks until that has ended.  Arguments, result and every `VknetError` have to be such as
    pickle takes, and calling the function twice has to be no harm.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        answer = _ask(function.__module__, function.__name__, args, kwargs)
        if answer is None:
            return function(*args, **kwargs)
        failed, value = answer
        if failed:
            raise value
        result: T = value
        return result

    return run


def prestart(*modules: str) -> None:
    """Start the process that will run the next function, if one can be started.

    Args:
        modules: what it imports meanwhile; what cannot be imported is left to the function.
    """
    with suppress(Exception):
        beginning = _beginning(modules)
        # What the pipe may not take at once is left alone: nobody is to wait here.
        if _can_start() and len(beginning) <= select.PIPE_BUF:
            process = _start()
            _prepared.append(process)
            assert process.stdin is not None
            os.write(process.stdin.fileno(), beginning)


def dismiss() -> None:
    """End what was prepared and is not needed: it has as much memory as a link."""
    while _prepared:
        with _prepared.pop() as process:
            process.kill()


def _ask(*call: object) -> tuple[bool, Any] | None:
    """Whether the function raised something, and what it raised or returned; None: no answer."""
    if not _can_start():
        return None
    answer = None
    if _prepared:
        # It may have been ended meanwhile, by whoever ends processes.
        answer = _answer(_prepared.pop(), pickle.dumps(call))
    if answer is None:
        with suppress(Exception):
            answer = _answer(_start(), _beginning() + pickle.dumps(call))
    return answer


def _beginning(modules: Sequence[str] = ()) -> bytes:
    """What such a process is told before the call."""
    return pickle.dumps([str(entry) for entry in sys.path]) + pickle.dumps(modules)


def _answer(process: subprocess.Popen[bytes], told: bytes) -> tuple[bool, Any] | None:
    """What this process says to that; None if it has no answer."""
    try:
        with process:
            said, _ = process.communicate(told)
        failed, value = pickle.loads(said)
    except Exception:  # noqa: BLE001  # start-up files, an upgrade under way ...
        return None
    return None if process.returncode else (bool(failed), value)


def _can_start() -> bool:
    return not getattr(sys, "frozen", False) and MARK not in os.environ and bool(sys.executable)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-c", BOOT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Out of reach of a Ctrl-C.
        start_new_session=True,
        env=os.environ | {MARK: "1"},
    )


def main() -> None:
    """Do what the other process asks for; whatever else goes wrong, it meets as well."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for module in pickle.load(sys.stdin.buffer):
        with suppress(ImportError):
            import_module(module)
    module, name, args, kwargs = pickle.load(sys.stdin.buffer)
    function = getattr(import_module(module), name).__wrapped__
    try:
        answer = False, function(*args, **kwargs)
    except VknetError as exc:
        answer = True, exc
    with answers:
        answers.write(pickle.dumps(answer))
