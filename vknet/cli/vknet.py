"""The vknet command: from argv to the exit status.

The command starts nothing before all arguments are parsed.  Exit status: 0 after SIGTERM, SIGINT or
SIGHUP; 1 if the link was lost or could not be established; 2 for wrong arguments.

The signal handlers come first, then the arguments, and then the imports that take long, above all
trio.  So ``--help`` is fast, and a signal during start-up gives no traceback.  For the same reason
the modules that are imported before the handlers do not import typing.
"""

from __future__ import annotations

import sys

from vknet.cli.early_signals import exit_on_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import NoReturn

    from vknet.cli.vknet_args import Settings

__all__ = ["main"]


def main() -> NoReturn:
    """Run the ``vknet`` command."""
    exit_on_signals()
    import logging

    from vknet.cli.last_words import run_to_the_end

    log = logging.getLogger("vknet")
    sys.exit(run_to_the_end(log, "vknet", lambda: _main(log)))


def _main(log: logging.Logger) -> int:
    import os

    from vknet.cli.last_words import run_to_the_end
    from vknet.cli.logs import background_log, keep_standard_descriptors
    from vknet.cli.vknet_args import parse_arguments
    from vknet.errors import UsageError, VknetError
    from vknet.exit_codes import EXIT_FAILED, EXIT_USAGE

    keep_standard_descriptors()
    with background_log(log, "vknet"):
        try:
            settings = parse_arguments(sys.argv[1:], os.environ.get("SSH_ORIGINAL_COMMAND", ""))
        except VknetError as exc:
            log.error("%s", exc)
            return EXIT_USAGE if isinstance(exc, UsageError) else EXIT_FAILED
    # The client adds the time to the lines of a remote half.
    with background_log(log, "vknet", timed=settings.ssh is not None):
        try:
            return run_to_the_end(log, "vknet", lambda: _run(log, settings))
        except UsageError as exc:
            log.error("%s", exc)
            return EXIT_USAGE


def _run(log: logging.Logger, settings: Settings) -> int:
    import logging

    from vknet.cli.requirements import missing_package
    from vknet.exit_codes import EXIT_FAILED
    from vknet.spec import TapSpec

    # The remote half prints warnings and errors only: they appear at the client's terminal.
    level = logging.INFO if settings.ssh else logging.WARNING
    log.setLevel(max(logging.DEBUG, level - 10 * settings.verbosity))
    needs_tap = isinstance(settings.spec, TapSpec) and sys.platform == "linux"
    if missing := missing_package("trio", *(["pyroute2"] if needs_tap else [])):
        log.error("%s", missing)
        return EXIT_FAILED
    if needs_tap:
        from vknet.endpoints.isolated import prestart

        prestart("vknet.endpoints.joining", "pyroute2")
    import trio

    from vknet.cli.vknet_run import run

    return trio.run(run, settings)
