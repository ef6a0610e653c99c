"""The documents agree with the program: its options, limits, status keys, names and files.

Code blocks and links of the Markdown pages are in tests/test_docs_*.py.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import vknet
from vknet import memory_endpoint_pair
from vknet.cli.vknet_args import HELP, WINDOW_MIN_BYTES
from vknet.cli.vknet_args import _parser as command_line
from vknet.cli.vknetd_args import AGE_MAX_S, AGE_MIN_S, CLIENTS_MAX
from vknet.cli.vknetd_args import HELP as SWITCH_HELP
from vknet.cli.vknetd_args import _parser as switch_command_line
from vknet.link.settings import LinkSettings
from vknet.packet.ethernet import ETHERNET_HEADER_SIZE, LONGEST_FRAME
from vknet.packet.ip import IPV6_MIN_MTU
from vknet.spec import DEFAULT_SOCKET, INTERFACE_LIMIT, SOCKET_PATH_LIMIT
from vknet.switch.filter import SourceFilter
from vknet.switch.guard import Guard
from vknet.switch.switch import QUEUE_BYTES, QUEUE_FRAMES, Port
from vknet.switch.table import AGE_S, ENTRIES_MAX, MacTable
from vknet.vknetd.daemon import Daemon
from vknet.vknetd.settings import CONTROL_SUFFIX, DEFAULT_CLIENTS
from vknet.vknetd.status import Peer, outside_status, port_status, table_status
from vknet.wire.blocks import FRAME_LIMIT_V1, FRAME_LIMIT_V2
from vknet.wire.hello import MTU_MAX, MTU_MIN, TIMEOUT_MAX_S, TIMEOUT_MIN_S, WINDOW_MAX
from vknet.wire.keepalive import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    import argparse

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs/guide.md").read_text()
SWITCH_GUIDE = (ROOT / "docs/vknetd.md").read_text()
LIBRARY = (ROOT / "docs/library.md").read_text()
MANUAL = (ROOT / "docs/vknet.1").read_text()
SWITCH_MANUAL = (ROOT / "docs/vknetd.8").read_text()


def status_keys() -> set[str]:
    """All keys of a status, as a daemon with one client tells it."""
    port = Port("client1", memory_endpoint_pair()[0])
    table = MacTable[Port]()
    table.learn(0, bytes(5) + b"\2", port, 0)
    status = port_status(port, Peer(0, "client"), 1, 0)
    keys = {*status, *status["in"]}
    told = table_status(table, AGE_S, ENTRIES_MAX, 0)
    keys |= {*told, *told["entries"][0]}
    keys |= {*outside_status(Guard(SourceFilter([], bytes(6))))}
    source = inspect.getsource(Daemon.status)
    return keys | set(re.findall(r'"(\w+)":', source))


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_example_of_the_library_page_runs() -> None:
    example, _ = re.findall(r"^```python\n(.*?)^```", LIBRARY, re.DOTALL | re.MULTILINE)
    output = run_python(example)
    assert "Up(peer='the peer', wire=2" in output
    assert "[b'a whole Ethernet frame']" in output
    assert "TrafficCounters(frames=1, bytes=22" in output


def test_the_example_of_the_package_runs() -> None:
    assert vknet.__doc__ is not None
    example = re.sub(
        "^    ", "", vknet.__doc__[vknet.__doc__.index("    import trio") :], flags=re.M
    )
    assert "[b'a whole Ethernet frame']" in run_python(example)


def names_section() -> str:
    return section("## Names", LIBRARY)


@pytest.mark.parametrize("name", sorted(set(vknet.__all__) - {"__version__"}))
def test_every_public_name_is_in_the_library_page(name: str) -> None:
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", names_section())


def test_the_library_page_names_nothing_that_is_not_public() -> None:
    first_cells = re.findall(r"^\| (.*?) \|", names_section(), re.M)
    named = {name for cell in first_cells for name in re.findall(r"`(?:await )?(\w+)", cell)}
    assert named <= set(vknet.__all__)


def options(parser: argparse.ArgumentParser) -> list[str]:
    return sorted({option for action in parser._actions for option in action.option_strings})


def section(heading: str, text: str) -> str:
    """What stands under a heading of a page, up to the next of its level."""
    found = re.search(rf"^{heading}$.*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found[0]


def is_named(option: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text) is not None


def is_item(option: str, page: str) -> bool:
    """Whether the page has an item that explains it, and not only a mention."""
    return re.search(rf"^\.It .*Fl {re.escape(option[1:])}(?![\w-])", page, re.M) is not None


@pytest.mark.parametrize("option", options(command_line()))
def test_every_option_is_in_the_help_the_guide_and_the_manual(option: str) -> None:
    assert is_named(option, HELP)
    assert is_named(option, section("## Options", GUIDE))
    assert is_item(option, MANUAL)


@pytest.mark.parametrize("option", options(switch_command_line()))
def test_every_option_of_vknetd_is_in_its_help_and_manual(option: str) -> None:
    assert is_named(option, SWITCH_HELP)
    assert is_item(option, SWITCH_MANUAL)


@pytest.mark.parametrize("option", options(switch_command_line()))
def test_every_option_of_vknetd_is_in_its_page(option: str) -> None:
    assert is_named(option, section("## Options", SWITCH_GUIDE))


@pytest.mark.parametrize("page", [GUIDE, SWITCH_GUIDE], ids=["guide", "vknetd"])
def test_no_table_has_an_option_that_is_not_there(page: str) -> None:
    there = options(command_line() if page is GUIDE else switch_command_line())
    for cell in re.findall(r"^\| (`-.*?) \| ", section("## Options", page), re.M):
        for option in re.findall(r"`(--?[\w-]+)", cell):
            assert option in there, cell


@pytest.mark.parametrize("page", [MANUAL, SWITCH_MANUAL], ids=["vknet", "vknetd"])
def test_no_page_explains_an_option_that_is_not_there(page: str) -> None:
    there = options(command_line() if page is MANUAL else switch_command_line())
    explained = page[page.index(".Sh OPTIONS") :]
    explained = explained[: explained.index(".Sh ", 1)]
    for line in re.findall(r"^\.It (Fl .*)$", explained, re.M):
        for option in re.findall(r"Fl (\S+)", line):
            assert f"-{option}" in there, line


@pytest.mark.parametrize("key", sorted(status_keys()))
def test_every_key_of_the_status_is_in_the_manual(key: str) -> None:
    page = SWITCH_MANUAL[SWITCH_MANUAL.index(".Sh STATUS") : SWITCH_MANUAL.index(".Sh SIGNALS")]
    assert re.search(rf"^\.(It )?Cm (.* , )?{key}\b", page, re.M)


def words_of(page: str) -> str:
    """The text of a manual page, without the macros that begin its lines."""
    return re.sub(r"\s+", " ", re.sub(r"^\.\w+ ", "", page, flags=re.M))


@pytest.mark.parametrize(
    "words",
    [
        f"any name of up to {INTERFACE_LIMIT} characters",
        f"It has at most {SOCKET_PATH_LIMIT} bytes",
        f"The default remote-spec is {DEFAULT_SOCKET}",
        f"This amount on any path, from {WINDOW_MIN_BYTES} to {WINDOW_MAX}",
        f"The MTU of the local TAP interface, from {MTU_MIN} to {MTU_MAX}",
        f"A number from {TIMEOUT_MIN_S:g} to {TIMEOUT_MAX_S:g}; {DEFAULT_TIMEOUT_S:g} by default",
        f"frames of up to {FRAME_LIMIT_V1} bytes and nothing else",
        f"It carries frames of up to {FRAME_LIMIT_V2} bytes",
        f"{LinkSettings().hello_timeout:g} seconds after the login",
    ],
)
def test_a_limit_in_the_manual_of_vknet_is_that_of_the_program(words: str) -> None:
    assert words in words_of(MANUAL)


def test_the_defaults_and_limits_in_the_manual_are_those_of_the_program() -> None:
    page = words_of(SWITCH_MANUAL)
    for words in (
        f"The path has at most {SOCKET_PATH_LIMIT - len(CONTROL_SUFFIX)} bytes",
        f"From {AGE_MIN_S} to {AGE_MAX_S}; {AGE_S:g} by default",
        f"From 1 to {CLIENTS_MAX}; {DEFAULT_CLIENTS} by default",
        f"from {MTU_MIN} to {MTU_MAX}, with IPv6 from {IPV6_MIN_MTU}",
        f"A frame of up to {LONGEST_FRAME} bytes",
        f"shorter than the {ETHERNET_HEADER_SIZE} bytes",
        f"It knows at most {ENTRIES_MAX} addresses",
        f"up to {QUEUE_FRAMES} frames or {QUEUE_BYTES >> 20} MiB",
    ):
        assert words in page, words


@pytest.mark.parametrize("text", [HELP, SWITCH_HELP])
def test_the_help_fits_a_terminal(text: str) -> None:
    assert max(len(line) for line in text.splitlines()) <= 79


def test_the_changelog_has_the_version() -> None:
    assert f"## {vknet.__version__}" in (ROOT / "CHANGELOG.md").read_text()
