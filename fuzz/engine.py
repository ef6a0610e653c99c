"""Run one target under atheris.

``python -m fuzz`` starts it as ``python -m fuzz.engine TARGET OPTION-OF-LIBFUZZER...``.
"""

from __future__ import annotations

import sys

import atheris

from fuzz.targets import load


def main() -> None:
    name, *options = sys.argv[1:]
    # Only the code under test counts as coverage, not the target that checks it.
    with atheris.instrument_imports(include=["vknet"]):
        target = load(name)
        # Imports within functions would not be instrumented.
        target.run(next(iter(target.seeds().values())))
    atheris.Setup([sys.argv[0], *options], target.run, internal_libfuzzer=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
