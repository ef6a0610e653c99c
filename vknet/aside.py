"""A function that is run in a process of its own, for what it would leave behind in this one.

pyroute2 is needed for the twentieth part of a second when a link is made, and would then stay: a
quarter of all the memory that a link has.  The process is another Python, isolated from everything
but this one's path; it is told through a pipe what to call, and answers through another.  Where
none can be started, or it ends without an answer, whatever the reason, the function is called here.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from vknet.errors import VknetError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["aside"]

P = ParamSpec("P")
T = TypeVar("T")

# -I: neither the folder somebody is in, nor the environment, nor the user's own packages have a
# say before the path is the one that this process trusts.
BOOT: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer);"
    " from vknet.aside import main; main()"
)

# In the environment of such a process.  Where `sys.executable` is no Python, but a program that has
# one in it, that program would start itself again, and again.
MARK: Final = "VKNET_ASIDE"


def aside(function: Callable[P, T]) -> Callable[P, T]:
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


def _ask(*call: object) -> tuple[bool, Any] | None:
    """Whether the function raised something, and what it raised or returned; None: no answer."""
    if getattr(sys, "frozen", False) or MARK in os.environ or not sys.executable:
        return None
    path = [str(entry) for entry in sys.path]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", BOOT],
            input=pickle.dumps(path) + pickle.dumps(call),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Out of reach of a Ctrl-C.
            start_new_session=True,
            env=os.environ | {MARK: "1"},
            check=True,
        )
        failed, value = pickle.loads(done.stdout)
    except Exception:  # noqa: BLE001  # somebody's policy, start-up files, an upgrade under way ...
        return None
    return bool(failed), value


def main() -> None:
    """Do what the other process asks for; whatever else goes wrong, it meets as well."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    module, name, args, kwargs = pickle.load(sys.stdin.buffer)
    function = getattr(import_module(module), name).__wrapped__
    try:
        answer = False, function(*args, **kwargs)
    except VknetError as exc:
        answer = True, exc
    with answers:
        answers.write(pickle.dumps(answer))
