"""The command line of a measurement that takes a number of rounds and nothing else."""

from __future__ import annotations

import argparse

__all__ = ["rounds_from", "whole"]


def whole(text: str) -> int:
    """Read a number of rounds, for argparse: 1 or more.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is no whole number of 1 or more')
    return int(text)


def rounds_from(name: str, description: str | None, default: int) -> int:
    """The rounds that the command line asks for.

    Args:
        name: of the module.
        description: its docstring; ``--help`` says the first paragraph.
        default: how many, if it does not say.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", description=(description or "").partition("\n\n")[0]
    )
    parser.add_argument(
        "rounds",
        type=whole,
        nargs="?",
        default=default,
        help=f"of which the medians count ({default})",
    )
    rounds: int = parser.parse_args().rounds
    return rounds
