"""Each fault of a link, and what has to follow: one table.

Each row runs between two hosts of its own.  It starts `vknet -r`, brings the fault about, checks
what has to hold while the fault lasts, ends the fault, and checks that frames are carried.  In the
end nothing is left of vknet on either host.
"""

from __future__ import annotations

import enum
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from testbed.hosts import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.hosts import Bed, Host
    from testbed.program import Program
    from tests.support.lan import Lan

    Step = Callable[["Lab"], None]

pytestmark = pytest.mark.slow

# A third of the timeout is the longest pause that no side may take for the death of the other.
OPTIONS: Final = ("-r", "0.2", "--timeout", "3")
PAUSE_S: Final = 1.0
FLAPS: Final = 8


class Then(enum.Enum):
    """What has to hold while a fault lasts."""

    STAYS = "frames are carried, and the link was never lost"
    PAUSES = "the link is not lost, and carries frames again after the fault"
    HEALS = "the link is lost, and the next one carries frames although the fault lasts"
    WAITS = "the link is lost, and vknet tries until the fault ends"
    TRIES = "the link is lost for good, and vknet tries until it is stopped"
    GONE = "vknet is gone, and with it all that it started on both hosts"


@dataclass
class Lab:
    """Two hosts with a link between them."""

    lan: Lan
    vknet: Program

    @property
    def bed(self) -> Bed:
        return self.lan.bed


@dataclass(frozen=True)
class Row:
    """A fault and what follows.

    Attributes:
        fault: brings it about.
        then: what has to hold while it lasts.
        says: what vknet says of it; None if it says nothing.
        cure: ends it; None if it is over, or lasts.
        within_s: how long it may take vknet to notice.
    """

    fault: Step
    then: Then
    says: str | None = None
    cure: Step | None = None
    within_s: float = 30.0


# --- processes ------------------------------------------------------------------------------------


def pids(lab: Lab, who: str) -> list[int]:
    """Return the processes of a part of the link."""
    here, there = lab.bed.here, lab.bed.there
    return {
        "vknet": lambda: [lab.vknet.process.pid],
        "ssh": lambda: here.processes("-x -T -e none"),
        "half": lambda: there.processes("vknet -S"),
        "session": lambda: there.processes("sshd: root"),
        "listener": lambda: there.processes("[listener]"),
        "helper": lambda: here.processes("vknet.endpoints.isolated"),
    }[who]()


def send(who: str, *numbers: signal.Signals) -> Step:
    """Send signals to a part of the link, with a short pause after each but the last."""

    def step(lab: Lab) -> None:
        found = pids(lab, who)
        assert found, f"no process of {who}"
        for number in numbers:
            if number != numbers[0]:
                time.sleep(PAUSE_S)
            for pid in found:
                os.kill(pid, number)

    return step


def catch_helper(number: signal.Signals) -> Step:
    """Delete the bridge, and send a signal to the helper that puts the TAP into a new one."""

    def step(lab: Lab) -> None:
        lab.bed.here.ip("link", "del", "bridge0")
        found = eventually(lambda: pids(lab, "helper"), "a helper", every=0)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    return step


def continue_vknet(lab: Lab) -> None:
    """Continue vknet once the remote half has taken it for dead."""
    eventually(lambda: not pids(lab, "half"), "the end of the remote half")
    send("vknet", CONT)(lab)


STOP, CONT, KILL = signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL


# --- the path, interfaces and hosts ---------------------------------------------------------------


def set_path(state: str) -> Step:
    return lambda lab: void(lab.bed.here.ip("link", "set", "wan0", state))


def void(_: object) -> None:
    """Ignore a result."""


def flap(lab: Lab) -> None:
    for _ in range(FLAPS):
        set_path("down")(lab)
        set_path("up")(lab)
        time.sleep(PAUSE_S / FLAPS)


def delete(side: str, name: str) -> Step:
    return lambda lab: void(host_of(lab, side).ip("link", "del", name))


def set_tap(side: str, state: str) -> Step:
    return lambda lab: void(host_of(lab, side).ip("link", "set", "tap0", state))


def host_of(lab: Lab, side: str) -> Host:
    host: Host = getattr(lab.bed, side)
    return host


def give_address(side: str) -> Step:
    """Give the bridge that vknet has created the address of the old one."""

    def step(lab: Lab) -> None:
        host = host_of(lab, side)
        eventually(lambda: host.link("tap0").get("master") == "bridge0", "the TAP in a bridge")
        last = 1 if side == "here" else 2
        host.ip("addr", "add", f"198.18.1.{last}/24", "dev", "bridge0")

    return step


def create_bridge(lab: Lab) -> None:
    """Create the bridge again, as the program that has deleted it may do."""
    here = lab.bed.here
    here.ip("link", "add", "bridge0", "type", "bridge")
    here.ip("link", "set", "bridge0", "up")
    give_address("here")(lab)


def end_host(lab: Lab) -> None:
    """End the first process of the other host, and with it the host and its end of the cable."""
    os.kill(lab.bed.there.init, KILL)


# --- short resources ------------------------------------------------------------------------------


def limit(resource: str, value: Callable[[int], int]) -> Step:
    """Limit a resource of vknet, and kill ssh, so that vknet needs more of it."""

    def step(lab: Lab) -> None:
        pid = lab.vknet.process.pid
        lab.bed.here.run("prlimit", f"--pid={pid}", f"--{resource}={value(pid)}:")
        send("ssh", KILL)(lab)

    return step


def unlimit(resource: str, value: str) -> Step:
    return lambda lab: void(
        lab.bed.here.run("prlimit", f"--pid={lab.vknet.process.pid}", f"--{resource}={value}:")
    )


def descriptors(pid: int) -> int:
    """Return the number of open descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def half_the_memory(pid: int) -> int:
    """Return half the size of the address space of a process, in bytes: it gets no more."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE") // 2


def fill_log(lab: Lab) -> None:
    """Put the log of a second vknet on a full disk, and make that vknet write to it."""
    lab.vknet.stop()
    with Path("/dev/full").open("wb") as full:
        process = lab.bed.here.start(*lab.vknet.command, stderr=full)
    lab.vknet.process = process
    lab.lan.carries()
    process.send_signal(signal.SIGUSR1)


SILENT: Final = "link lost: myhomesystem has fallen silent"
DELETED: Final = "the interface tap0 was deleted"

ROWS: Final = {
    # Processes.
    "ssh is killed": Row(send("ssh", KILL), Then.HEALS, "link lost: ssh was killed by SIGKILL"),
    "ssh is stopped": Row(send("ssh", STOP), Then.HEALS, SILENT),
    "ssh pauses": Row(send("ssh", STOP, CONT), Then.STAYS),
    "sshd's session is killed": Row(send("session", KILL), Then.HEALS, "link lost"),
    "sshd's session is stopped": Row(send("session", STOP), Then.HEALS, SILENT),
    "sshd's session pauses": Row(send("session", STOP, CONT), Then.STAYS),
    "sshd's listener is killed": Row(send("listener", KILL), Then.STAYS),
    "sshd's listener is stopped": Row(
        send("listener", STOP), Then.STAYS, cure=send("listener", CONT)
    ),
    "sshd is killed with its sessions": Row(
        lambda lab: lab.bed.stop_sshd(),
        Then.WAITS,
        "no sshd answers on myhomesystem",
        cure=lambda lab: lab.bed.start_sshd(),
    ),
    "the remote half is killed": Row(send("half", KILL), Then.HEALS, "link lost"),
    "the remote half is stopped": Row(send("half", STOP), Then.HEALS, SILENT),
    "the remote half pauses": Row(send("half", STOP, CONT), Then.STAYS),
    "vknet is killed": Row(send("vknet", KILL), Then.GONE),
    "vknet is stopped": Row(send("vknet", STOP), Then.WAITS, cure=continue_vknet),
    "vknet pauses": Row(send("vknet", STOP, CONT), Then.STAYS),
    "the netlink helper is killed": Row(
        catch_helper(KILL), Then.PAUSES, "put tap0 back", cure=give_address("here")
    ),
    "the netlink helper is stopped": Row(
        # A call of the helper may take 20 s.
        catch_helper(STOP),
        Then.PAUSES,
        "tap0 cannot be put back in the bridge bridge0",
        cure=create_bridge,
        within_s=60.0,
    ),
    # The path.
    "the path is down": Row(set_path("down"), Then.WAITS, SILENT, cure=set_path("up")),
    "the path loses every packet": Row(
        lambda lab: lab.bed.black_hole(on=True),
        Then.WAITS,
        SILENT,
        cure=lambda lab: lab.bed.black_hole(on=False),
    ),
    "the path flaps": Row(flap, Then.STAYS),
    # Interfaces and hosts.
    "the TAP here is deleted": Row(delete("here", "tap0"), Then.HEALS, f"link lost: {DELETED}"),
    "the TAP there is deleted": Row(
        delete("there", "tap0"), Then.HEALS, f"link lost: myhomesystem ended the link: {DELETED}"
    ),
    "the TAP here is down": Row(set_tap("here", "down"), Then.PAUSES, cure=set_tap("here", "up")),
    "the TAP there is down": Row(
        set_tap("there", "down"), Then.PAUSES, cure=set_tap("there", "up")
    ),
    "the bridge here is deleted": Row(
        delete("here", "bridge0"),
        Then.PAUSES,
        "the bridge bridge0 was deleted",
        cure=give_address("here"),
    ),
    "the bridge there is deleted": Row(
        delete("there", "bridge0"), Then.PAUSES, cure=give_address("there")
    ),
    "the other host is gone": Row(end_host, Then.TRIES, "link lost"),
    # Short resources.
    "the disk of the log is full": Row(fill_log, Then.STAYS),
    "descriptors are short": Row(
        limit("nofile", descriptors),
        Then.WAITS,
        "Too many open files",
        cure=unlimit("nofile", "1024"),
    ),
    "memory is short": Row(limit("as", half_the_memory), Then.HEALS, "link lost"),
}


@pytest.mark.parametrize("name", ROWS)
def test_fault_has_the_consequence_of_its_row(lan: Lan, name: str) -> None:
    row = ROWS[name]
    vknet = lan.vknet(*OPTIONS)
    vknet.says("link up")
    lan.carries()
    lab = Lab(lan, vknet)
    row.fault(lab)
    if row.says is not None:
        vknet.says(row.says, within=row.within_s)
    check_during(lab, row)
    if row.cure is not None:
        row.cure(lab)
    if row.then in (Then.STAYS, Then.PAUSES):
        lan.carries()
        assert "lost" not in vknet.log
    elif row.then is Then.WAITS:
        vknet.says("link up", times=2)
        lan.carries()
    if row.then is not Then.GONE:
        assert vknet.stop() == 0, vknet.log
    assert "Traceback" not in vknet.log
    check_nothing_is_left(lab, row)


def check_during(lab: Lab, row: Row) -> None:
    """Check what has to hold while the fault lasts."""
    vknet, lan = lab.vknet, lab.lan
    match row.then:
        case Then.STAYS:
            lan.carries()
        case Then.PAUSES:
            assert vknet.process.poll() is None
        case Then.HEALS:
            vknet.says("link up", times=2)
            lan.carries()
        case Then.WAITS:
            assert not lan.answers()
            assert vknet.process.poll() is None
        case Then.TRIES:
            vknet.says("no link")
        case Then.GONE:
            assert vknet.status() == -KILL


def check_nothing_is_left(lab: Lab, row: Row) -> None:
    here, there = lab.bed.here, lab.bed.there
    eventually(lambda: not here.processes("-x -T -e none"), "the end of ssh")
    eventually(lambda: "tap0" not in here.interfaces(), "the end of the TAP here")
    if row.then is Then.TRIES:
        return
    for pid in there.processes("vknet -S"):
        # A row may leave it stopped.
        with suppress(ProcessLookupError):
            os.kill(pid, CONT)
    eventually(lambda: not there.processes("vknet -S"), "the end of the remote half")
    eventually(lambda: "tap0" not in there.interfaces(), "the end of the TAP there")
