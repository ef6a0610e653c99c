"""What the commands say on stderr and to syslog, and that nothing can hold that up."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest

from vknet.cli import logs as speaking

RECORD = logging.LogRecord("vknet", logging.WARNING, __file__, 1, "a %s", ("line",), None)

SCRIPT = """
import logging
from vknet.cli.logs import background_log
log = logging.getLogger("vknet")
with background_log(log, "vknet"):
    log.error("what went wrong")
"""


def test_a_message_reaches_stderr_as_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "vknet: what went wrong\n")


@pytest.mark.parametrize("handler", [speaking._Stderr(), speaking._Syslog()])
def test_a_handler_writes_without_its_lock(
    handler: logging.Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(handler, "emit", lambda record: written.append(record.getMessage()))
    handler.acquire()
    # Of a thread that is stuck in a write, the lock would be taken for ever.
    thread = threading.Thread(target=handler.handle, args=(RECORD,), daemon=True)
    thread.start()
    thread.join(20)
    handler.release()
    assert written == ["a line"]
