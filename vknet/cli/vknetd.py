"""The vknetd command: from argv to the exit status, in the background or in the foreground.

Exit status: 0 after SIGTERM, SIGINT or SIGHUP; 1 if something failed; 2 for wrong arguments.  As in
`vknet.cli.vknet`, the imports that take long come after the arguments.
"""

from __future__ import annotations

import errno
import logging
import sys
from contextlib import ExitStack
from typing import NoReturn

from vknet.cli.early_signals import exit_on_signals
from vknet.exit_codes import EXIT_FAILED, EXIT_USAGE

__all__ = ["main"]

log = logging.getLogger("vknet")


def main() -> NoReturn:
    """Run the ``vknetd`` command."""
    exit_on_signals()
    from vknet.cli.logs import background_log, keep_standard_descriptors
    from vknet.cli.vknetd_args import COMMAND, Action, parse
    from vknet.errors import UsageError, VknetError
    from vknet.vknetd.systemd import Background, is_managed

    keep_standard_descriptors()
    settings = None
    status = EXIT_USAGE
    with background_log(log, COMMAND):
        try:
            settings = parse(sys.argv[1:])
        except VknetError as exc:
            log.error("%s", exc)
            status = EXIT_USAGE if isinstance(exc, UsageError) else EXIT_FAILED
    if settings is None:
        sys.exit(status)
    log.setLevel(max(logging.DEBUG, logging.INFO - 10 * settings.verbosity))
    is_switch = settings.action is Action.SWITCH
    # It forks, so it comes before the second log starts a thread.
    background = (
        Background() if is_switch and not settings.foreground and not is_managed() else None
    )
    with ExitStack() as log_stack:
        # Before it detaches, its lines are those of a command that ends at once.
        timed = is_switch and background is None
        log_stack.enter_context(background_log(log, COMMAND, timed=timed))
        import trio

        from vknet.cli.vknetd_run import run_client, run_switch

        try:
            if is_switch:
                status = trio.run(run_switch, settings, background, log_stack)
            else:
                status = trio.run(run_client, settings)
        except OSError as exc:
            # The event loop itself needs descriptors.
            if exc.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            log.error("cannot start: %s; raise the limit of open files (ulimit -n)", exc.strerror)
            status = EXIT_FAILED
    sys.exit(status)
