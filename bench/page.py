"""The page of all benchmarks, of what the last runs of each left: JSON in one folder.

python -m bench.page docs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.report import to_markdown
from bench.wan_report import wan_to_markdown

__all__ = ["write_page"]


def write_page(folder: Path) -> None:
    """Write ``benchmarks.md`` beside the JSON."""
    parts = [
        make(json.loads((folder / name).read_text()))
        for name, make in (
            ("benchmarks.json", to_markdown),
            ("benchmarks-wan.json", wan_to_markdown),
        )
        if (folder / name).exists()
    ]
    (folder / "benchmarks.md").write_text("\n".join(parts))


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
