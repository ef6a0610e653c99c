"""Run a function in a child process, so that the modules it imports do not stay in this one.

Setting up a link needs pyroute2 for about 50 ms.  Imported here, it would stay for the life of the
program and be a quarter of its memory.

The child is another Python in isolated mode (``python -I``) with this process's `sys.path`.  It
reads from its stdin, pickled one after the other:

    the path, a list of str
    the modules to import at once, a sequence of str
    the call: module, function, positional arguments, keyword arguments

and writes one pickled pair to its stdout: whether the function raised, and its result or its error.
If no child can be started, or it ends without an answer, the function is called in this process.
A child that does not answer in time is killed.

`prestart` starts the child of the next call early, so that both processes import at the same time;
that saves a quarter of a second before the first frame.  This module owns a prestarted child.  It
ends after its call, on `dismiss`, or when this process ends and its stdin with it.
"""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
import threading
from contextlib import suppress
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from vknet.errors import SetupError, VknetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Interrupt", "dismiss", "isolated", "prestart"]

P = ParamSpec("P")
T = TypeVar("T")

# With -I, Python ignores the working directory, the environment and the user's packages until the
# path of this process is in force.
CHILD_CODE: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer);"
    " from vknet.endpoints.isolated import main; main()"
)

# Set in the environment of a child, which starts no child of its own.  `sys.executable` may be a
# program that embeds Python; without this it would start itself without end.
CHILD_VARIABLE: Final = "VKNET_ISOLATED"

# The time for a call, the start of Python included.  Another process may hold the RTNL lock of the
# kernel for seconds.
CALL_TIMEOUT_S: Final = 20.0

# The children of `prestart` that have not had their call.
_prestarted: list[subprocess.Popen[bytes]] = []


class Interrupt:
    """Ends the calls of one thread early, from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, function: Callable[[], T]) -> T:
        """Call a function, whose isolated calls this object ends."""
        token = _interrupt.set(self)
        try:
            return function()
        finally:
            _interrupt.reset(token)

    def set(self) -> None:
        """Kill the child of the current call, and let it and all further calls raise SetupError."""
        with self._lock:
            self._is_set = True
            if self._child is not None:
                self._child.kill()

    def watch(self, child: subprocess.Popen[bytes] | None) -> None:
        """Kill this child when `set` is called; None ends that.

        Raises:
            SetupError: `set` was called.
        """
        with self._lock:
            self._child = child
            if self._is_set:
                raise SetupError("the change of an interface was interrupted")


# That of the current thread; None if there is none.
_interrupt: ContextVar[Interrupt | None] = ContextVar("_interrupt", default=None)


def isolated(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a module's function so that each call runs in a child process.

    The call blocks until the child has ended, or for `CALL_TIMEOUT_S`, and then raises SetupError.
    An `Interrupt` ends it early.  The arguments, the result and every `VknetError`
    that the function raises must be picklable.  The function may be called twice for one call, so
    repeating it must be harmless.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        answer = _call_in_child(function.__module__, function.__name__, args, kwargs)
        if answer is None:
            return function(*args, **kwargs)
        raised, value = answer
        if raised:
            raise value
        result: T = value
        return result

    return run


def prestart(*modules: str) -> None:
    """Start the child of the next call, if one can be started; never block.

    Args:
        modules: the modules that it imports at once; those that fail to import are ignored.
    """
    with suppress(Exception):
        preamble = _preamble(modules)
        # An empty pipe takes PIPE_BUF bytes without blocking.
        if _can_start() and len(preamble) <= select.PIPE_BUF:
            process = _start()
            _prestarted.append(process)
            assert process.stdin is not None
            os.write(process.stdin.fileno(), preamble)


def dismiss() -> None:
    """End the prestarted children that were not used; each has as much memory as a link."""
    while _prestarted:
        with _prestarted.pop() as process:
            process.kill()


def _call_in_child(*call: object) -> tuple[bool, Any] | None:
    """Return whether the function raised, and its error or result; None if there is no answer."""
    if not _can_start():
        return None
    answer = None
    if _prestarted:
        # It may have been killed since; then a new one is started.
        answer = _communicate(_prestarted.pop(), pickle.dumps(call))
    if answer is None:
        try:
            child = _start()
        except OSError:
            return None
        answer = _communicate(child, _preamble() + pickle.dumps(call))
    return answer


def _preamble(modules: Sequence[str] = ()) -> bytes:
    """Return what a child reads before its call."""
    return pickle.dumps([str(entry) for entry in sys.path]) + pickle.dumps(modules)


def _communicate(process: subprocess.Popen[bytes], data: bytes) -> tuple[bool, Any] | None:
    """Write to a child and return its answer; None if it has none.

    Raises:
        SetupError: it did not answer in time, or the call was interrupted.
    """
    interrupt = _interrupt.get() or Interrupt()
    try:
        with process:
            try:
                interrupt.watch(process)
                output, _ = process.communicate(data, CALL_TIMEOUT_S)
            finally:
                # The exit of the context waits for it.
                process.kill()
        interrupt.watch(None)
        raised, value = pickle.loads(output)
    except subprocess.TimeoutExpired as exc:
        raise SetupError(
            f"the process that changes interfaces (pid {process.pid}) did not answer within"
            f" {CALL_TIMEOUT_S:g} s; was it stopped, or is another program changing interfaces all"
            " the time?"
        ) from exc
    except (VknetError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - a broken child may answer anything; the call is made here
        return None
    return None if process.returncode else (bool(raised), value)


def _can_start() -> bool:
    frozen = getattr(sys, "frozen", False)
    return not frozen and CHILD_VARIABLE not in os.environ and bool(sys.executable)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-c", CHILD_CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # In a session of its own, a Ctrl-C in the terminal does not reach it.
        start_new_session=True,
        env=os.environ | {CHILD_VARIABLE: "1"},
    )


def main() -> None:
    """Be the child: import the modules, run the call, write the answer.

    An error other than `VknetError` ends the child without an answer; the call is then repeated in
    the parent, which meets the error itself.
    """
    # What the function prints must not get into the answer.
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
