"""Lines of ssh that are the same at each attempt."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio

from vknet import Link, LinkSettings, SshSettings, Target, VknetError, Wire, memory_endpoint_pair
from vknet.transport.known_lines import KNOWN_MAX, KnownLines
from vknet.transport.ssh import SshDialer

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_that_differ_in_a_number_are_the_same() -> None:
    known = KnownLines()
    assert known.add("port 1022: refused")
    assert not known.add("port 1023: refused")
    assert known.add("port 1023: timed out")


def test_known_lines_are_bounded() -> None:
    known = KnownLines()
    for number in range(3 * KNOWN_MAX):
        assert known.add("".join(chr(ord("a") + int(digit)) for digit in str(number)))
    assert len(known._known) == KNOWN_MAX


async def test_lines_are_news_again_after_a_link_that_was_up() -> None:
    await trio.lowlevel.checkpoint()
    dialer = SshDialer(SshSettings(Target(None, "home")))
    assert dialer._known_lines.add("a line")
    first = dialer()
    assert not dialer._known_lines.add("a line")
    first.up.set()
    dialer()
    assert dialer._known_lines.add("a line")


async def test_second_attempt_repeats_its_lines_for_debugging_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "odd-ssh"
    script.write_text("#!/bin/sh\necho a note >&2\necho the end >&2\nexit 255\n")
    script.chmod(0o755)
    dialer = SshDialer(SshSettings(Target(None, "home"), command=(str(script),)))
    endpoint, other = memory_endpoint_pair()
    async with endpoint, other:
        for _ in range(2):
            with pytest.raises(VknetError, match="the end"):
                await Link(endpoint, dialer(), LinkSettings(Wire.AUTO)).run()
    noted = [r.levelno for r in caplog.records if "a note" in r.getMessage()]
    assert noted.count(logging.WARNING) == 1
