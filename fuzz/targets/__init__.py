"""The targets, by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NAMES", "Target", "load"]

NAMES: Final = ("decoder", "hello", "session", "packet", "filter", "describe", "control")


class Target(Protocol):
    """What each module of this package has.

    Attributes:
        MAX_SIZE: the longest input that makes sense, in bytes.
        WORDS: bytes that mean something to the code, for the mutations.
    """

    MAX_SIZE: int
    WORDS: tuple[bytes, ...]

    def seeds(self) -> Mapping[str, bytes]:
        """Return the inputs to begin with, by name."""

    def run(self, data: bytes) -> None:
        """Run the code on one input.

        Raises:
            AssertionError: something does not hold that has to.
        """


def load(name: str) -> Target:
    """Import a target, and the part of vknet that it runs."""
    return cast("Target", import_module(f"fuzz.targets.{name}"))
