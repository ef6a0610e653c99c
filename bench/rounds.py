"""The command line of a measurement whose only argument is a number of rounds."""

from __future__ import annotations

import argparse

__all__ = ["positive_int", "rounds_from"]


def positive_int(text: str) -> int:
    """Read a whole number of 1 or more, for argparse.

    Raises:
        argparse.ArgumentTypeError: the text is not such a number.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number of 1 or more')
    return int(text)


def rounds_from(name: str, description: str | None, default: int) -> int:
    """Return the number of rounds that the command line asks for.

    Args:
        name: of the module.
        description: its docstring; ``--help`` shows the first paragraph.
        default: the number of rounds without an argument.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", description=(description or "").partition("\n\n")[0]
    )
    parser.add_argument(
        "rounds",
        type=positive_int,
        nargs="?",
        default=default,
        help=f"number of rounds; the result is their median ({default})",
    )
    rounds: int = parser.parse_args().rounds
    return rounds
