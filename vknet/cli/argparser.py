"""The parts of a command line that both commands share: one-line errors, and number ranges.

argparse states most errors in words of its own (``argument -r: expected one argument``).  `Parser`
restates them, so that each names the option and what it needs.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, NoReturn

from vknet.cli.output import write_stdout
from vknet.errors import UsageError, escaped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import SupportsWrite

__all__ = ["Parser", "parse_number"]


_NEGATIVE = re.compile(r"-(?:[0-9]+\.?[0-9]*|\.[0-9]+)", re.ASCII)


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors, and with a help text that is written by hand.

    Args:
        prog: the command's name.
        text: the output of ``--help``.  Its first paragraph is the usage.
    """

    def __init__(self, prog: str, text: str) -> None:
        # The base class adds -h, and `add_argument` needs the table for it.
        self._options: dict[str, argparse.Action] = {}
        super().__init__(prog=prog, allow_abbrev=False, exit_on_error=False)
        self._text = text

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        """Add an argument; the `metavar` of an option is the form of its value, for errors."""
        action = super().add_argument(*args, **kwargs)
        self._options["/".join(action.option_strings)] = action
        return action

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse a command line; options and other arguments may come in any order.

        Raises:
            UsageError: what is wrong with it, in one line.
        """
        try:
            args, unknown = self.parse_known_intermixed_args(self._joined(argv))
        except argparse.ArgumentError as exc:
            raise UsageError(self._message(exc)) from exc
        if unknown:
            raise UsageError(self.unknown_message(unknown))
        return args

    def _joined(self, argv: Sequence[str]) -> list[str]:
        """Join an option and a negative number after it, which argparse takes for an option.

        So the type of the option refuses the number, with the range that is allowed.
        """
        with_value = {
            option
            for action in self._options.values()
            if action.nargs is None
            for option in action.option_strings
        }
        words: list[str] = []
        for word in argv:
            if words and words[-1] in with_value and _NEGATIVE.fullmatch(word):
                words[-1] += f"={word}" if words[-1].startswith("--") else word
            else:
                words.append(word)
        return words

    def unknown_message(self, words: Sequence[str]) -> str:
        """Return the error message for words that fit no argument."""
        option = next((word for word in words if word.startswith("-") and word != "-"), None)
        if option is None:
            return f'"{escaped(words[0])}" is one argument too many; see {self.prog} --help'
        return f"there is no option {escaped(option)}; see {self.prog} --help"

    def error(self, message: str) -> NoReturn:
        """Raise any other error of argparse as a `UsageError`."""
        raise UsageError(escaped(message))

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print the help or the version.  argparse would ignore errors."""
        del file
        write_stdout(message)

    def format_help(self) -> str:
        """Return the help text."""
        return self._text

    def format_usage(self) -> str:
        """Return the first paragraph of the help text."""
        # argparse would build it from the metavars, and fails at those that contain brackets.
        return self._text.partition("\n\n")[0] + "\n"

    def _message(self, exc: argparse.ArgumentError) -> str:
        name = exc.argument_name or ""
        option = name.partition("/")[0]
        # A value that its type refused: the type has worded the error.
        if isinstance(exc.__context__, argparse.ArgumentTypeError):
            return f"{option}: {exc.message}"
        action = self._options.get(name)
        if action is None:
            return escaped(str(exc))
        if action.nargs == 0:
            return f"{option} takes no value"
        return f"{option} needs a value: {action.metavar}"


def parse_number(kind: type[int] | type[float], low: float, high: float, text: str) -> float:
    """Read a number within a range, as the `type` of an argument.

    Args:
        kind: int for whole numbers only.
        low: the lowest number allowed, above -1.
        high: the highest number allowed.
        text: as the user wrote it.

    Raises:
        argparse.ArgumentTypeError: it is not a number, or is out of range.
    """
    try:
        value = kind(text)
    except ValueError:
        value = kind(-1)
    if not low <= value <= high:
        whole = "whole " if kind is int else ""
        raise argparse.ArgumentTypeError(
            f'"{escaped(text)}" must be a {whole}number from {low:.12g} to {high:.12g}'
        )
    return value
