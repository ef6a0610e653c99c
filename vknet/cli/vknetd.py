"""The vknetd command: from argv to the exit status, in the background or in the foreground.

Exit status: 0 after SIGTERM, SIGINT or SIGHUP; 1 if something failed; 2 for wrong arguments.  As in
`vknet.cli.vknet`, the imports that take long come after the arguments.
"""

from __future__ import annotations

import sys

from vknet.cli.early_signals import exit_on_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from contextlib import ExitStack
    from typing import NoReturn

    from vknet.cli.vknetd_args import Settings
    from vknet.vknetd.systemd import Background

__all__ = ["main"]


def main() -> NoReturn:
    """Run the ``vknetd`` command."""
    exit_on_signals()
    import logging

    from vknet.cli.last_words import run_to_the_end

    log = logging.getLogger("vknet")
    sys.exit(run_to_the_end(log, "vknetd", lambda: _main(log)))


def _main(log: logging.Logger) -> int:
    import logging
    from contextlib import ExitStack

    from vknet.cli.last_words import run_to_the_end
    from vknet.cli.logs import background_log, keep_standard_descriptors
    from vknet.cli.requirements import missing_package
    from vknet.cli.vknetd_args import COMMAND, Action, parse
    from vknet.errors import UsageError, VknetError
    from vknet.exit_codes import EXIT_FAILED, EXIT_USAGE
    from vknet.vknetd.systemd import Background, is_managed

    keep_standard_descriptors()
    with background_log(log, COMMAND):
        try:
            settings = parse(sys.argv[1:])
        except VknetError as exc:
            log.error("%s", exc)
            return EXIT_USAGE if isinstance(exc, UsageError) else EXIT_FAILED
    log.setLevel(max(logging.DEBUG, logging.INFO - 10 * settings.verbosity))
    if missing := missing_package("trio"):
        sys.exit(f"{COMMAND}: {missing}")
    is_switch = settings.action is Action.SWITCH
    # It forks, so it comes before the second log starts a thread.
    background = (
        Background() if is_switch and not settings.foreground and not is_managed() else None
    )
    with ExitStack() as log_stack:
        # Before it detaches, its lines are those of a command that ends at once.
        timed = is_switch and background is None
        log_stack.enter_context(background_log(log, COMMAND, timed=timed))
        return run_to_the_end(log, COMMAND, lambda: _run(settings, background, log_stack))


def _run(settings: Settings, background: Background | None, log_stack: ExitStack) -> int:
    import trio

    from vknet.cli.vknetd_args import Action
    from vknet.cli.vknetd_run import run_client, run_switch

    if settings.action is Action.SWITCH:
        return trio.run(run_switch, settings, background, log_stack)
    return trio.run(run_client, settings)
