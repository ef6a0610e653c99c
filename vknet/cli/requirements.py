"""The packages that a command needs, before it imports them."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["missing_package"]


def missing_package(*names: str) -> str | None:
    """Return the error for the first package that is not installed; None if all are."""
    missing = next((name for name in names if find_spec(name) is None), None)
    if missing is None:
        return None
    return (
        f"the Python package {missing} is missing; install it for {sys.executable}, for example:"
        f" {sys.executable} -m pip install {missing}"
    )
