"""The version, alone, so that everything can import it."""

from typing import Final

__version__: Final = "0.2.0"
