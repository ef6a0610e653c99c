"""For all tests: which are left out, what that means for the run, and its signals.

A test that needs root has the marker ``root``; everything in tests/hosts has it.  Without root
these tests are deselected, and the summary says so.

A test that takes minutes has the marker ``slow``.  It runs only when the -m option names that
marker; otherwise it is deselected, and the summary says so.

With CI in the environment no test may be left out: a run without root is an error, unless it asks
for ``-m "not root"``, and a skipped test fails the run.

A run that nohup or a script's ``&`` started ignores SIGHUP or SIGINT.  The programs under test
would inherit that, and not end on these signals, so the run stops ignoring them.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

import pytest
import trio.testing
from hypothesis import settings

if TYPE_CHECKING:
    from tests.support.links import Streams

QUICK: Final = "quick"
QUICK_EXAMPLES: Final = 20

LEFT_OUT: Final = pytest.StashKey[int]()
SLOW: Final = pytest.StashKey[int]()

# With CI set, Hypothesis would try the same examples in every run.
settings.load_profile("default")
# nox -s unit: for a run on each Python, beside a thorough one.
settings.register_profile(QUICK, settings.default, max_examples=QUICK_EXAMPLES, deadline=None)


def survive_hangup(*_: object) -> None:
    """Handle SIGHUP, as nohup promised; a program that is executed gets the default action."""


def pytest_configure() -> None:
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, survive_hangup),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture
def streams() -> Streams:
    """Two ends of a byte stream in memory."""
    return trio.testing.memory_stream_pair()


def limit_examples(item: pytest.Item) -> None:
    """Apply the limit of the quick profile to a property that sets its own number of examples.

    Hypothesis has no public way to override that number: it is an attribute of the function, and
    `settings` of the class for a state machine.
    """
    for owner, name in (
        (getattr(item, "obj", None), "_hypothesis_internal_use_settings"),
        (getattr(item, "cls", None), "settings"),
    ):
        own = getattr(owner, name, None)
        if isinstance(own, settings) and own.max_examples > QUICK_EXAMPLES:
            setattr(owner, name, settings(own, max_examples=QUICK_EXAMPLES))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--hypothesis-profile") == QUICK:
        for item in items:
            limit_examples(item)
    if "slow" not in config.getoption("-m"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.stash[SLOW] = len(slow)
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
    if os.geteuid() == 0:
        return
    left_out = [item for item in items if item.get_closest_marker("root")]
    if left_out and os.environ.get("CI"):
        raise pytest.UsageError(
            f"CI is set, and {len(left_out)} tests need root; run them as root, or the others alone"
            ' with -m "not root"'
        )
    config.stash[LEFT_OUT] = len(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if slow := config.stash.get(SLOW, 0):
        terminalreporter.write_line(f"not run: {slow} slow tests; `-m slow` runs them")
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(
            f"not run: {left_out} tests that need root; `sudo make test` runs all"
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and os.environ.get("CI"):
        session.exitstatus = 1
