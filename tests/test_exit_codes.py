"""The exit statuses, which scripts and systemd units depend on."""

from __future__ import annotations

from vknet.exit_codes import EXIT_FAILED, EXIT_STOPPED, EXIT_USAGE


def test_exit_statuses_are_those_of_the_manual() -> None:
    assert (EXIT_STOPPED, EXIT_FAILED, EXIT_USAGE) == (0, 1, 2)
