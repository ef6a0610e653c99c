"""Logging to stderr and to syslog, which a blocked reader must not block."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from typing import Final

import pytest

from vknet.cli.logs import _StderrHandler, _SyslogHandler

RECORD = logging.LogRecord("vknet", logging.WARNING, __file__, 1, "a %s", ("line",), None)

SCRIPT = """
import logging
from vknet.cli.logs import background_log
log = logging.getLogger("vknet")
with background_log(log, "vknet"):
    log.error("a message")
"""


NO_THREADS: Final = SCRIPT.replace(
    '    log.error("a message")',
    """\
    def no_thread(*_):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = no_thread
    log.error("a message")
    log.error("another")""",
).replace("import logging", "import logging, threading")


def test_lines_are_written_at_the_end_when_no_thread_can_be_started() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_THREADS], capture_output=True, text=True, check=True
    )
    assert done.stderr.count("vknet: a") == 2
    assert "Traceback" not in done.stderr


def test_message_is_one_line_on_stderr() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "vknet: a message\n")


def run_script(script: str, **variables: str) -> str:
    """Run a script; return its stderr, which is a pipe."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=os.environ | {"TZ": "UTC"} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def test_timed_line_begins_with_the_date_and_the_time() -> None:
    line = run_script(SCRIPT.replace('log, "vknet"', 'log, "vknet", timed=True'))
    assert re.fullmatch(r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d vknet: a message\n", line)


JOURNAL_SCRIPT = """
import logging, os
from vknet.cli.logs import background_log
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
log = logging.getLogger("vknet")
log.setLevel(logging.DEBUG)
with background_log(log, "vknet", timed=True):
    for level in (10, 20, 30, 40, 50):
        log.log(level, "a message")
"""


def test_line_for_the_journal_has_its_priority_and_no_time() -> None:
    assert run_script(JOURNAL_SCRIPT) == "".join(
        f"<{priority}>vknet: a message\n" for priority in (7, 6, 4, 3, 2)
    )


def test_journal_of_another_descriptor_is_not_stderr() -> None:
    assert run_script(SCRIPT, JOURNAL_STREAM="8:12345") == "vknet: a message\n"


@pytest.mark.parametrize("handler", [_StderrHandler(), _SyslogHandler()])
def test_handler_writes_without_taking_its_lock(
    handler: logging.Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(handler, "emit", lambda record: written.append(record.getMessage()))
    handler.acquire()
    # A thread that a write blocks would otherwise hold the lock for ever.
    thread = threading.Thread(target=handler.handle, args=(RECORD,), daemon=True)
    thread.start()
    thread.join(20)
    handler.release()
    assert written == ["a line"]


def test_line_for_syslog_is_utf8_and_has_no_nul(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("syslog.syslog", lambda _, line: written.append(line))
    name = os.fsdecode(b"/run/\xff")
    record = logging.LogRecord("vknet", logging.INFO, __file__, 1, "%s \0 \u00fc", (name,), None)
    _SyslogHandler().handle(record)
    assert written == [r"/run/\udcff \x00 \u00fc".replace(r"\u00fc", "\u00fc")]


FAILING = """
import logging, syslog
from vknet.cli.logs import background_syslog
log = logging.getLogger("vknet")
lines = []
def write(priority, line):
    if line == "a bad line":
        raise ValueError(line)
    lines.append(line)
syslog.syslog = write
with background_syslog(log, "vknet"):
    log.error("a bad line")
    log.error("a message")
assert lines == ["a message"], lines
"""


def test_line_that_cannot_be_written_does_not_end_the_log() -> None:
    assert "ValueError: a bad line" in run_script(FAILING)
