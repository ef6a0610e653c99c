"""Logging to stderr and to syslog, which a blocked reader must not block."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

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


def test_message_is_one_line_on_stderr() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "vknet: a message\n")


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
