"""For all tests: a skipped test is a failed run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio.testing

if TYPE_CHECKING:
    from tests.support.links import Streams


@pytest.fixture
def streams() -> Streams:
    """Two ends of a byte stream in memory."""
    return trio.testing.memory_stream_pair()


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = 1
