"""The vknetd command: from argv to the exit status, in the background or not.

Exit status: 0 after SIGTERM, SIGINT or SIGHUP; 1 when something fails; 2 for wrong arguments.  What
takes long to import comes after the arguments, as with vknet.
"""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from typing import NoReturn

from vknet.cli.early_signals import stop_at_once_on_signals
from vknet.exit_codes import EXIT_USAGE

__all__ = ["main"]

log = logging.getLogger("vknet")


def main() -> NoReturn:
    """The entry point of the ``vknetd`` command."""
    stop_at_once_on_signals()
    from vknet.cli.logs import background_log, keep_standard_descriptors
    from vknet.cli.vknetd_args import COMMAND, Action, parse
    from vknet.errors import UsageError
    from vknet.vknetd.systemd import Background, is_managed

    keep_standard_descriptors()
    settings = None
    with background_log(log, COMMAND):
        try:
            settings = parse(sys.argv[1:])
        except UsageError as exc:
            log.error("%s", exc)
    if settings is None:
        sys.exit(EXIT_USAGE)
    log.setLevel(max(logging.DEBUG, logging.INFO - 10 * settings.verbosity))
    is_switch = settings.action is Action.SWITCH
    # Before there is a second thread.
    background = (
        Background() if is_switch and not settings.foreground and not is_managed() else None
    )
    with ExitStack() as speaking:
        speaking.enter_context(background_log(log, COMMAND))
        import trio

        from vknet.cli.vknetd_run import ask, serve

        if is_switch:
            status = trio.run(serve, settings, background, speaking)
        else:
            status = trio.run(ask, settings)
    sys.exit(status)
