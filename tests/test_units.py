"""The units for systemd: systemd understands them, and the commands understand their options.

Nothing is started here; tests/vknetd/test_systemd.py and tests/hosts/test_confinement.py do that.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vknet.cli.vknet_args import parse_arguments
from vknet.cli.vknetd_args import Action
from vknet.cli.vknetd_args import parse as parse_switch_arguments
from vknet.spec import DEFAULT_SOCKET
from vknet.vknetd.settings import CONTROL_SUFFIX, DEFAULT_GROUP, DEFAULT_MODE

ROOT = Path(__file__).resolve().parent.parent
UNITS = sorted(path.name for path in (ROOT / "systemd").iterdir())
INSTALLED = "/usr/local/bin/"
DOCUMENTS = [ROOT / "README.md", ROOT / "docs/vknetd.8", ROOT / "docs/vknet.1"]


def text_of(unit: str) -> str:
    return (ROOT / "systemd" / unit).read_text()


def setting(unit: str, name: str) -> str:
    """The value of a setting that stands there once."""
    (value,) = re.findall(rf"^{name}=(.*)$", text_of(unit), re.M)
    return str(value)


def arguments(unit: str, variable: str, options: str) -> list[str]:
    """What the command gets where its variable has this value, which systemd splits at blanks."""
    command = setting(unit, "ExecStart")
    assert f"${variable}" in command.split()
    words = command.replace(f"${variable}", options)
    return shlex.split(words)[1:]


def examples(variable: str) -> list[str]:
    """All values that the documents and the units have for a variable."""
    found: list[str] = []
    for path in (*DOCUMENTS, *(ROOT / "systemd").iterdir()):
        # To the end of its line, or of the quotes it is in.
        found += re.findall(rf"{variable}=(?![ \n])([^'\n]*)", path.read_text())
    return found


def verify(directory: Path, unit: str, bin_directory: str) -> subprocess.CompletedProcess[str]:
    """Have systemd read a unit, with the commands in this directory, where it looks for them."""
    for name in UNITS:
        (directory / name).write_text(text_of(name).replace(INSTALLED, bin_directory))
    command = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"./{unit}")
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("unit", [name.replace("@.", "@home.") for name in UNITS])
def test_systemd_has_nothing_to_say_about_a_unit(unit: str, tmp_path: Path) -> None:
    done = verify(tmp_path, unit, f"{sys.prefix}/bin/")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_says_that_a_command_is_missing(tmp_path: Path) -> None:
    done = verify(tmp_path, "vknetd.service", f"{tmp_path}/none/")
    assert f"{tmp_path}/none/vknetd is not executable" in done.stderr


def test_the_options_of_the_switch_are_understood() -> None:
    values = examples("VKNETD_OPTIONS")
    assert len(values) >= 2
    for value in values:
        settings = parse_switch_arguments(arguments("vknetd.service", "VKNETD_OPTIONS", value))
        assert settings.action is Action.SWITCH
        assert settings.foreground
        assert settings.path == DEFAULT_SOCKET


def test_the_arguments_of_a_link_are_understood() -> None:
    values = examples("VKNET_OPTIONS")
    assert values
    for value in values:
        settings = parse_arguments(arguments("vknet@.service", "VKNET_OPTIONS", value))
        assert settings.retry is not None
        assert settings.ssh is not None
        assert "BatchMode=yes" in " ".join(settings.ssh.options)


def test_the_socket_unit_listens_where_the_command_would_and_for_the_same_people() -> None:
    path = DEFAULT_SOCKET.replace("/var/run/", "/run/")
    assert setting("vknetd.socket", "ListenSequentialPacket") == path
    assert setting("vknetd.socket", "ListenStream") == path + CONTROL_SUFFIX
    assert int(setting("vknetd.socket", "SocketMode"), 8) == DEFAULT_MODE
    assert setting("vknetd.socket", "SocketGroup") == DEFAULT_GROUP
    assert setting("vknetd.service", "Group") == DEFAULT_GROUP


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_unit_that_a_document_names_is_there(path: Path) -> None:
    for unit in re.findall(r"\bvknetd?[\w@-]*\.(?:service|socket)\b", path.read_text()):
        assert re.sub(r"@\w+\.", "@.", unit) in UNITS, unit


@pytest.mark.parametrize("unit", UNITS)
def test_the_manual_names_every_unit(unit: str) -> None:
    assert unit in (ROOT / "docs/vknetd.8").read_text()
