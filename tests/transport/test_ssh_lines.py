"""Which lines of ssh are logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.links import running
from vknet import Link, LinkSettings, SshSettings, Target, VknetError, Wire, memory_endpoint_pair
from vknet.transport.ssh import SshDialer
from vknet.transport.ssh_lines import KNOWN_MAX, KnownLines, LineLog

if TYPE_CHECKING:
    from pathlib import Path


def test_line_that_the_error_quotes_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    lines = LineLog("host", KnownLines())
    lines.add("first")
    lines.add("no route")
    lines.quoted("it cannot be reached (no route)")
    lines.release()
    assert caplog.messages == ["host: first"]


def test_line_of_an_earlier_attempt_is_logged_for_debugging_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = KnownLines()
    with caplog.at_level(logging.DEBUG):
        for port in (1022, 1023):
            lines = LineLog("host", known)
            lines.add(f"port {port}: refused")
            lines.release()
    assert [r.levelname for r in caplog.records] == ["WARNING", "DEBUG"]


def test_every_line_is_logged_at_once_while_the_link_is_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = LineLog("host", KnownLines())
    lines.add("tap0 is down")
    for _ in range(2):
        lines.add("tap0 is down", at_once=True)
    assert not lines.holds_line
    assert caplog.messages == ["host: tap0 is down"] * 3


async def test_lines_are_news_again_after_a_link_that_was_up() -> None:
    await trio.lowlevel.checkpoint()
    dialer = SshDialer(SshSettings(Target(None, "home")))
    assert dialer._known_lines.add("a line")
    first = dialer()
    assert not dialer._known_lines.add("a line")
    first.up.set()
    dialer()
    assert dialer._known_lines.add("a line")


def test_known_lines_are_bounded() -> None:
    known = KnownLines()
    for number in range(3 * KNOWN_MAX):
        assert known.add("".join(chr(ord("a") + int(digit)) for digit in str(number)))
    assert len(known._known) == KNOWN_MAX


async def test_second_attempt_of_ssh_logs_nothing_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "odd-ssh"
    script.write_text("#!/bin/sh\necho a note >&2\necho ssh: no route >&2\nexit 255\n")
    script.chmod(0o755)
    dialer = SshDialer(SshSettings(Target(None, "home"), command=(str(script),)))
    endpoint, other = memory_endpoint_pair()
    async with endpoint, other:
        for _ in range(2):
            with pytest.raises(VknetError, match="ssh: no route"):
                await Link(endpoint, dialer(), LinkSettings(Wire.AUTO)).run()
    assert caplog.messages == ["home: a note"]


class Awaited(logging.Handler):
    """Sets an event at the first record."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = trio.Event()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()
        self.seen.set()


async def test_line_is_logged_while_ssh_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "odd-ssh"
    script.write_text("#!/bin/sh\necho touch your key >&2\nexec cat\n")
    script.chmod(0o755)
    dialer = SshDialer(SshSettings(Target(None, "home"), command=(str(script),)))
    endpoint, other = memory_endpoint_pair()
    handler = Awaited()
    log = logging.getLogger("vknet.transport.ssh_lines")
    log.addHandler(handler)
    try:
        async with endpoint, other, running() as nursery:
            nursery.start_soon(Link(endpoint, dialer(), LinkSettings(Wire.AUTO)).run)
            with trio.fail_after(20):
                await handler.seen.wait()
    finally:
        log.removeHandler(handler)
    assert handler.text == "home: touch your key"
