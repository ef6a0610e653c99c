"""Blocks of the documents for users, and how host tests type them in."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from testbed.host import REPOSITORY

if TYPE_CHECKING:
    from testbed.host import Host

__all__ = ["GUIDE", "LIBRARY", "README", "VKNETD", "blocks", "type_in", "words_of"]

README: Final = REPOSITORY / "README.md"
GUIDE: Final = REPOSITORY / "docs/guide.md"
LIBRARY: Final = REPOSITORY / "docs/library.md"
VKNETD: Final = REPOSITORY / "docs/vknetd.md"

# What sudo does for root.
SUDO: Final = """\
#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
    -u) shift 2 ;;
    -*) shift ;;
    *) break ;;
    esac
done
exec "$@"
"""


def blocks(text: str, heading: str, language: str = "sh") -> list[str]:
    """The fenced blocks of a language under a heading of a page.

    Raises:
        AssertionError: the page has no such heading.
    """
    found = re.search(rf"^##? {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.S | re.M)
    if found is None:
        raise AssertionError(f"no heading {heading}")
    return re.findall(rf"^```{language}\n(.*?)^```$", found[1], re.S | re.M)


def words_of(block: str) -> list[str]:
    """The words of a block that is one command, without its sudo and its comment."""
    (line,) = block.replace("\\\n", " ").splitlines()
    words = shlex.split(line, comments=True)
    return words[1:] if words[0] == "sudo" else words


def type_in(host: Host, script: str) -> str:
    """Run a block on a host, as root; return its output.

    Raises:
        AssertionError: a command of it failed; with what it said.
    """
    folder = host.directory / "shims"
    folder.mkdir(exist_ok=True)
    path = folder / "sudo"
    path.write_text(SUDO)
    path.chmod(0o755)
    environment = {"PATH": f"{folder}:{host.environment()['PATH']}"}
    return host.output("sh", "-ec", script, env=environment)
