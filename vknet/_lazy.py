"""Public names that are imported when they are first used.

A package that re-exports much would otherwise load all of it, trio included, for each of its
modules, even where a command only reads its arguments.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["exports"]


def exports(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """Make a package's ``__getattr__`` (PEP 562).

    Args:
        package: its name.
        homes: the public names by the module that defines them.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def getattr_(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(home_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return getattr_
