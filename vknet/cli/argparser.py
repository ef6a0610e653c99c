"""What the command lines of both commands share: errors of one line, and numbers in a range."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from vknet.errors import UsageError, escaped

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Parser", "number", "what_is_unknown"]


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line and a help written by hand.

    Args:
        prog: the command's name.
        text: what ``--help`` prints.
    """

    def __init__(self, prog: str, text: str) -> None:
        super().__init__(prog=prog, allow_abbrev=False)
        self._text = text

    def error(self, message: str) -> NoReturn:
        raise UsageError(escaped(message))

    def format_help(self) -> str:
        return self._text


def number(kind: type[int] | type[float], low: float, high: float, text: str) -> float:
    """Read a number for argparse.

    Raises:
        argparse.ArgumentTypeError: it is none, or out of this range.
    """
    try:
        value = kind(text)
    except ValueError:
        value = kind(-1)
    if not low <= value <= high:
        whole, form = ("whole ", "d") if kind is int else ("", "g")
        raise argparse.ArgumentTypeError(
            f'"{escaped(text)}" is no {whole}number from {low:{form}} to {high:{form}}'
        )
    return value


def what_is_unknown(words: Sequence[str], command: str) -> str:
    """What to say of words that the command line has no place for."""
    option = next((word for word in words if word.startswith("-") and word != "-"), None)
    if option is None:
        return f'"{escaped(words[0])}" is one argument too many; see {command} --help'
    return f"there is no option {escaped(option)}; see {command} --help"
