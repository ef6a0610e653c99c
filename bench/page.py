"""docs/benchmarks.md, made of the JSON that the last run of each benchmark left in a directory.

python -m bench.page docs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.report import to_markdown
from bench.wan_report import wan_to_markdown

__all__ = ["write_page"]


def write_page(directory: Path) -> None:
    """Write ``benchmarks.md`` beside the JSON files; either of them may be missing."""
    parts = [
        make(json.loads((directory / name).read_text()))
        for name, make in (
            ("benchmarks.json", to_markdown),
            ("benchmarks-wan.json", wan_to_markdown),
        )
        if (directory / name).exists()
    ]
    (directory / "benchmarks.md").write_text("\n".join(parts))


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
