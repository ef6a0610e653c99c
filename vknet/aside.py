"""A function that is run in a process of its own, for what it would leave behind in this one.

pyroute2 is needed for the twentieth part of a second when a link is made, and would then stay: a
quarter of all the memory that a link has.  The process is another Python with the same path, told
through a pipe what to call, and it answers through another.  Where none can be started, which is
somebody's policy, or it dies, the function is called here after all.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["aside"]

P = ParamSpec("P")
T = TypeVar("T")


def aside(function: Callable[P, T]) -> Callable[P, T]:
    """Have a function run in a process of its own; a decorator.

    It blocks until that has ended.  Arguments, result and exceptions have to be such as pickle
    takes, and calling the function twice has to be no harm.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        call = pickle.dumps((function.__module__, function.__name__, args, kwargs))
        # Not the folder that somebody happens to be in: -P.  And out of reach of a Ctrl-C.
        command = [sys.executable, "-P", "-m", __name__]
        path = os.pathsep.join(filter(None, sys.path))
        try:
            done = subprocess.run(
                command,
                input=call,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": path},
                check=False,
            )
        except OSError:
            return function(*args, **kwargs)
        if done.returncode != 0:
            return function(*args, **kwargs)
        raised, answer = pickle.loads(done.stdout)
        if raised:
            raise answer
        result: T = answer
        return result

    return run


def main() -> None:
    """Do what the other process asks for."""
    module, name, args, kwargs = pickle.load(sys.stdin.buffer)
    function = getattr(import_module(module), name).__wrapped__
    try:
        answer = False, function(*args, **kwargs)
    except Exception as exc:  # noqa: BLE001  # whatever it is, it is raised on the other side
        answer = True, exc
    sys.stdout.buffer.write(pickle.dumps(answer))


if __name__ == "__main__":
    main()
