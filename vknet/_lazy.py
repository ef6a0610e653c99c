"""Public names of a package that are imported on first use.

Importing any module of a package runs the package's ``__init__``.  If that imported everything it
re-exports, a command would load trio only to parse its arguments.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["exports"]


def exports(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """Return the ``__getattr__`` function of a package (PEP 562).

    Args:
        package: the name of the package.
        homes: the public names, by the module that defines them.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def getattr_(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        value: object = getattr(import_module(home_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return getattr_
