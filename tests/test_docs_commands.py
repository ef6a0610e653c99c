"""The code blocks of the pages for users: a shell can parse them, the commands accept their lines.

tests/hosts/test_docs_guide.py runs those that can be run between two hosts.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from vknet.cli.vknet_args import parse_arguments
from vknet.cli.vknetd_args import Action
from vknet.cli.vknetd_args import parse as parse_switch_arguments
from vknet.errors import UsageError
from vknet.transport.ssh_command import remote_command

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{name}.md"
        for name in ("guide", "vknetd", "library", "performance", "troubleshooting")
    ),
]
UNITS = {path.name for path in (ROOT / "systemd").iterdir()}

BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
LANGUAGES = {"sh", "python", "nft", "text"}
# What a shell has between two commands, and no option of a command contains.
BETWEEN = {"|", "||", "&", "&&", ";", "<", ">", ">>", "2>&1"}
COMMANDS = {"vknet", "vknetd"}
SUDO_OPTION = re.compile(r"-\w|--[\w-]+(=\S*)?")


class Block(NamedTuple):
    page: str
    language: str
    text: str


BLOCKS = [
    Block(page.name, language, re.sub(f"^{indent}", "", text, flags=re.M))
    for page in PAGES
    for indent, language, text in BLOCK.findall(page.read_text())
]
SHELL = [block for block in BLOCKS if block.language == "sh"]


def commands_in(script: str) -> list[list[str]]:
    """The command lines of vknet and vknetd in a script, without what is before and behind them."""
    found = []
    for line in re.sub(r"\\\n", " ", re.sub(r"(^|\s)#.*", r"\1", script)).splitlines():
        try:
            words = shlex.split(line)
        except ValueError:
            # A line of a quoted text that goes over several.
            continue
        while words:
            end = next((n for n, word in enumerate(words) if word in BETWEEN), len(words))
            found += one_command(words[:end])
            words = words[end + 1 :]
    return found


def one_command(words: list[str]) -> list[list[str]]:
    if words[:1] == ["sudo"]:
        words = words[1:]
        while words and SUDO_OPTION.fullmatch(words[0]):
            words = words[1:]
    inner = [shlex.split(word) for option, word in pairwise(words) if option == "--remote-command"]
    # What the client adds to it on the far side.
    remote = [[*words[words.index("vknet") :], "-S", "auto"] for words in inner if "vknet" in words]
    return [words, *remote] if words and words[0] in COMMANDS else remote


def accept(words: list[str]) -> None:
    """Have a command parse its arguments; it says what is wrong with them."""
    parse = parse_arguments if words[0] == "vknet" else parse_switch_arguments
    parse(words[1:])


@contextmanager
def suppress_missing_argument() -> Iterator[None]:
    """Let an error pass that says that an argument is missing."""
    try:
        yield
    except UsageError as exc:
        if " is needed" not in str(exc):
            raise


def spans() -> list[tuple[str, str]]:
    """Commands in the prose, but for those of one option and those with an ellipsis."""
    return [
        (page.name, span)
        for page in PAGES
        for span in re.findall(r"`([^`]+)`", BLOCK.sub("", page.read_text()))
        if re.match(r"(sudo )?vknetd? \S+ \S", span) and "…" not in span
    ]


def identify(block: Block) -> str:
    return f"{block.page}:{block.text.splitlines()[0][:50]}"


def test_every_block_has_a_language() -> None:
    assert {block.language for block in BLOCKS} <= LANGUAGES
    for page in PAGES:
        prose = BLOCK.sub("", page.read_text())
        assert not re.search(r"\n\n    \S", prose), f"{page.name} has an indented block"


@pytest.mark.parametrize("block", SHELL, ids=identify)
def test_a_shell_can_parse_every_block(block: Block) -> None:
    subprocess.run(["sh", "-n"], input=block.text, text=True, check=True)


@pytest.mark.parametrize("block", SHELL, ids=identify)
def test_the_commands_accept_every_line_of_a_block(block: Block) -> None:
    for words in commands_in(block.text):
        accept(words)


@pytest.mark.parametrize(("page", "span"), spans())
def test_the_commands_accept_what_the_prose_shows(page: str, span: str) -> None:
    del page
    (words, *_) = commands_in(span)
    # An option may be named with its value alone.
    with suppress_missing_argument():
        accept(words)


def test_commands_are_found_in_blocks() -> None:
    found = [" ".join(words) for block in SHELL for words in commands_in(block.text)]
    assert "vknet tap0 root@myhomesystem:tap0" in found
    assert "vknetd -c --pcap -" in found
    assert "vknet -S auto" in found, "of --remote-command"
    assert len(found) >= 20


def test_every_block_of_python_compiles() -> None:
    blocks = [block for block in BLOCKS if block.language == "python"]
    assert len(blocks) == 2
    for block in blocks:
        compile(block.text, block.page, "exec")


def test_the_forced_commands_are_accepted() -> None:
    found = re.findall(r'command="([^"]*)"', (ROOT / "docs/guide.md").read_text())
    assert len(found) == 2
    for command in found:
        (words,) = commands_in(command)
        assert parse_arguments(words[1:]).ssh is None


def test_the_rule_for_sudo_allows_what_the_client_runs() -> None:
    page = (ROOT / "docs/guide.md").read_text()
    # sudoers(5) escapes an equals sign.
    (rule,) = re.findall(r"NOPASSWD: (.*)", page)
    (line,) = re.findall(r"^sudo (vknet .*--remote-command .*)$", page, re.M)
    settings = parse_arguments(shlex.split(line)[1:])
    assert settings.ssh is not None
    assert settings.ssh.remote_vknet == "sudo -n vknet"
    command = remote_command(settings.ssh).removeprefix("sudo -n ")
    assert rule.replace(r"\=", "=") == f"/usr/local/bin/{command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_unit_that_a_page_names_is_there(page: Path) -> None:
    for unit in re.findall(r"\bvknetd?[\w@-]*\.(?:service|socket)\b", page.read_text()):
        assert re.sub(r"@\w+\.", "@.", unit) in UNITS, unit


def options_of(variable: str) -> list[str]:
    """All values that the pages have for a variable of a unit."""
    pattern = rf"{variable}=(?![ \n])([^'\n]*)"
    return [value for page in PAGES for value in re.findall(pattern, page.read_text())]


def test_the_options_of_the_units_are_accepted() -> None:
    (link,) = options_of("VKNET_OPTIONS")
    settings = parse_arguments(["-o", "BatchMode=yes", *shlex.split(link)])
    assert settings.retry is not None
    assert settings.ssh is not None
    (switch,) = options_of("VKNETD_OPTIONS")
    assert parse_switch_arguments(["-d", *shlex.split(switch)]).action is Action.SWITCH
