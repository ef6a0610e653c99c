"""The vknet command: from argv to the exit status.

Nothing is started before every argument has been understood.  Exit status: 0 after SIGTERM, SIGINT
or SIGHUP; 1 when the link was lost or never came about; 2 for wrong arguments.

What takes long to import, trio above all, comes after the arguments and the signals: whoever asks
for help need not wait for it, and whoever stops the command at once sees no traceback.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from vknet.cli.early_signals import stop_at_once_on_signals
from vknet.exit_codes import EXIT_USAGE

__all__ = ["main"]

log = logging.getLogger("vknet")


def main() -> NoReturn:
    """The entry point of the ``vknet`` command."""
    stop_at_once_on_signals()
    from vknet.cli.logs import background_log, keep_standard_descriptors
    from vknet.cli.vknet_args import parse_arguments
    from vknet.errors import UsageError
    from vknet.spec import TapSpec

    keep_standard_descriptors()
    with background_log(log, "vknet"):
        try:
            settings = parse_arguments(sys.argv[1:], os.environ.get("SSH_ORIGINAL_COMMAND", ""))
            # The remote half speaks up only when something is wrong: its user is on the other side.
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
