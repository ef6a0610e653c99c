"""What docs/vknetd.md tells users to type, on real hosts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from testbed.hosts import Bed, Host, eventually
from testbed.program import Program
from testbed.uml import BOOT_TIMEOUT_S, MEMORY_DIRECTORY
from tests.support.pages import VKNETD, blocks, type_in, words_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SWITCHES, JOINED = blocks(VKNETD.read_text(), "vknetd")


def page(heading: str) -> list[str]:
    return blocks(VKNETD.read_text(), heading)


def status(host: Host) -> dict[str, object]:
    found: dict[str, object] = json.loads(host.output("vknetd", "--status", "--json"))
    return found


@pytest.mark.parametrize("line", SWITCHES.splitlines()[:3], ids=["secure", "bridge", "plain"])
def test_switch_of_the_page_runs_in_the_background(here: Host, line: str) -> None:
    type_in(here, line)
    found = status(here)
    assert found["secure"] == ("-U" not in line)
    assert ("bridge0" in here.interfaces()) == ("-b bridge0" in line)
    here.run("kill", str(found["pid"]))
    eventually(lambda: not here.processes("vknetd"), "its end")


def test_isolated_switch_of_the_page_needs_no_privileges(here: Host) -> None:
    line = SWITCHES.splitlines()[3].replace("./vknet.sock", str(here.user_home / "vknet.sock"))
    Program(here, *words_of(line), user="alice").says("ready")


def test_switches_of_two_hosts_are_joined(bed: Bed) -> None:
    for host in (bed.here, bed.there):
        type_in(host, SWITCHES.splitlines()[2])
    Program(bed.here, *words_of(JOINED)).says("link up: /var/run/vknet to myhomesystem")
    assert status(bed.there)["clients"] == 1


def test_running_switch_shows_its_status_and_flooded_frames(here: Host) -> None:
    type_in(here, SWITCHES.splitlines()[0])
    show, _, dump = page("Status and capture")[0].splitlines()
    assert "secure, for 198.18.5.0/24" in type_in(here, show)
    with (here.directory / "dump").open("wb") as out:
        here.start("sh", "-c", dump.replace("-n -r -", "-n -l -c 1 -r - arp"), stdout=out)
    eventually(lambda: status(here)["clients"] == 1, "the capture")
    here.reaches("198.18.5.2")
    dumped = here.directory / "dump"
    eventually(lambda: "who-has 198.18.5.2" in dumped.read_text(), "a frame in the capture")


def on_console(log: Path, text: str) -> Callable[[], bool]:
    return lambda: text in log.read_text(errors="replace")


def test_two_kernels_of_the_page_ping_each_other(here: Host) -> None:
    script = page("Kernels in user space")[0]
    first = "rm -f one.in; mkfifo one.in; ./boot 1 <>one.in >one.log 2>&1 &\nwait\n"
    assert script.endswith("\n./boot 1\n")
    script = script.removesuffix("./boot 1\n") + first
    here.run("mkdir", "-p", "-m", "1777", MEMORY_DIRECTORY)
    home = here.user_home
    here.start(
        "bash",
        "-ec",
        f"cd {home}; {script}",
        user="alice",
        env={"TMPDIR": MEMORY_DIRECTORY},
    )
    one, two = home / "kernels/one.log", home / "kernels/two.log"
    for log in (one, two):
        eventually(log.exists, f"{log.name}")
        eventually(on_console(log, "/ # "), "the prompt of a kernel", BOOT_TIMEOUT_S)
    (home / "kernels/one.in").write_text("ping -c 3 198.18.5.2\n")
    eventually(on_console(one, "3 packets received"), "the answers")
    for log in (one, two):
        log.with_suffix(".in").write_text("exit\n")
        eventually(on_console(log, "System halted"), "the end of a kernel")
