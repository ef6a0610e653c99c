"""The lines of ssh on their way to the log."""

from __future__ import annotations

import logging
import os
import pty
import termios
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.links import running
from vknet.transport.known_lines import KnownLines
from vknet.transport.ssh_lines import (
    HOLD_S,
    LINES_PER_S,
    LineRelay,
    Terminal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trio.testing import MockClock


def never(_line: str = "") -> bool:
    return False


def relay_of(
    is_asking: Callable[[], bool] = never, known: KnownLines | None = None, *, is_up: bool = False
) -> LineRelay:
    return LineRelay("home", is_asking, lambda: is_up, known or KnownLines())


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, "vknet"):
        yield caplog


async def test_line_is_logged_after_a_moment(
    autojump_clock: MockClock, logged: pytest.LogCaptureFixture
) -> None:
    relay = relay_of()
    async with running() as nursery:
        nursery.start_soon(relay.run)
        relay.add("home: one")
        await trio.sleep(HOLD_S / 2)
        assert not logged.messages
        await trio.sleep(HOLD_S)
        assert logged.messages == ["home: one"]


async def test_line_that_the_error_quotes_is_not_logged_as_well(
    autojump_clock: MockClock, logged: pytest.LogCaptureFixture
) -> None:
    relay = relay_of()
    async with running() as nursery:
        nursery.start_soon(relay.run)
        await trio.testing.wait_all_tasks_blocked()
        for line in ("ssh: a warning", "ssh: cannot", "ssh: not", "ssh: it is unknown: gone"):
            relay.add(line)
        relay.leave_out("cannot be reached (it is unknown: gone)", never)
    assert logged.messages == ["ssh: a warning", "ssh: not"]


async def test_line_that_follows_from_the_error_is_not_logged(
    autojump_clock: MockClock, logged: pytest.LogCaptureFixture
) -> None:
    relay = relay_of()
    async with running() as nursery:
        nursery.start_soon(relay.run)
        await trio.testing.wait_all_tasks_blocked()
        relay.add("ssh: one")
        relay.add("ssh: two")
        relay.leave_out("", lambda line: line == "two")
    assert logged.messages == ["ssh: one"]


async def test_lines_wait_while_a_prompt_is_open(
    autojump_clock: MockClock, logged: pytest.LogCaptureFixture
) -> None:
    asking = True
    relay = relay_of(lambda: asking)
    async with running() as nursery:
        nursery.start_soon(relay.run)
        relay.add("ssh: one")
        relay.add("ssh: two")
        await trio.sleep(60)
        assert not logged.messages
        asking = False
        await trio.sleep(1)
        assert logged.messages == ["ssh: one", "ssh: two"]


async def test_flood_of_lines_is_cut_and_counted(
    autojump_clock: MockClock, logged: pytest.LogCaptureFixture
) -> None:
    relay = relay_of(is_up=True)
    async with running() as nursery:
        nursery.start_soon(relay.run)
        for _ in range(LINES_PER_S + 7):
            relay.add("home: chatter")
        await trio.sleep(2)
        relay.add("home: last")
    assert logged.messages.count("home: chatter") == LINES_PER_S
    assert logged.messages[-2:] == ["home: (7 more lines)", "home: last"]


def test_terminal_without_echo_is_asking() -> None:
    ours, theirs = pty.openpty()
    try:
        terminal = Terminal(os.ttyname(theirs))
        assert terminal.exists
        assert not terminal.is_asking()
        modes = termios.tcgetattr(theirs)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        assert terminal.is_asking()
        terminal.close()
        terminal.close()
        assert not terminal.exists
    finally:
        os.close(ours)
        os.close(theirs)


def test_missing_terminal_is_never_asking() -> None:
    terminal = Terminal("/nonexistent")
    assert not terminal.exists
    assert not terminal.is_asking()


@pytest.mark.parametrize("is_up", [False, True])
async def test_line_of_an_earlier_attempt_is_for_debugging_unless_the_link_is_up(
    autojump_clock: MockClock, logged: pytest.LogCaptureFixture, is_up: bool
) -> None:
    known = KnownLines()
    for port in (1022, 1023):
        relay = relay_of(never, known, is_up=is_up)
        async with running() as nursery:
            nursery.start_soon(relay.run)
            relay.add(f"ssh: port {port}: refused")
            await trio.sleep(1)
    assert len(logged.messages) == 1 + is_up
