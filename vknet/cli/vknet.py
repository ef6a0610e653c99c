"""The vknet command: from argv to the exit status.

The command starts nothing before all arguments are parsed.  Exit status: 0 after SIGTERM, SIGINT or
SIGHUP; 1 if the link was lost or could not be established; 2 for wrong arguments.

The signal handlers and the arguments come first, and the imports that take long, above all trio,
come after them.  So ``--help`` is fast, and a signal during start-up gives no traceback.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from vknet.cli.early_signals import exit_on_signals
from vknet.exit_codes import EXIT_FAILED, EXIT_USAGE

__all__ = ["main"]

log = logging.getLogger("vknet")


def main() -> NoReturn:
    """Run the ``vknet`` command."""
    exit_on_signals()
    from vknet.cli.logs import background_log, keep_standard_descriptors
    from vknet.cli.vknet_args import parse_arguments
    from vknet.errors import UsageError, VknetError
    from vknet.spec import TapSpec

    keep_standard_descriptors()
    settings = None
    status = EXIT_USAGE
    with background_log(log, "vknet"):
        try:
            settings = parse_arguments(sys.argv[1:], os.environ.get("SSH_ORIGINAL_COMMAND", ""))
        except VknetError as exc:
            log.error("%s", exc)
            status = EXIT_USAGE if isinstance(exc, UsageError) else EXIT_FAILED
    if settings is None:
        sys.exit(status)
    # The client adds the time to the lines of a remote half.
    with background_log(log, "vknet", timed=settings.ssh is not None):
        try:
            # The remote half prints warnings and errors only: they appear at the client's terminal.
            level = logging.INFO if settings.ssh else logging.WARNING
            log.setLevel(max(logging.DEBUG, level - 10 * settings.verbosity))
            if isinstance(settings.spec, TapSpec) and sys.platform == "linux":
                from vknet.endpoints.isolated import prestart

                prestart("vknet.endpoints.netlink", "pyroute2")
            import trio

            from vknet.cli.vknet_run import run

            status = trio.run(run, settings)
        except UsageError as exc:
            log.error("%s", exc)
            status = EXIT_USAGE
    sys.exit(status)
