"""The tunnels that are measured: how each is started on two hosts, and stopped.

Each runs as its manual says, with its defaults, and ends in a TAP called `DEVICE` on both hosts.
The bench gives the TAP its address as soon as it exists, whether the tool could do so or not: then
the time from the command to the first ping covers the same work for every tool.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.processes import Pids, pids_now, pids_since
from testbed.hosts import Bed, eventually
from testbed.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from testbed.hosts import Host

__all__ = ["ADDRESSES", "SSHD_OPTIONS", "TOOLS", "Tool", "Tunnel"]

DEVICE: Final = "tap0"
ADDRESSES: Final = ("198.18.2.1", "198.18.2.2")

# `ssh -w` needs this option of sshd.
SSHD_OPTIONS: Final = ("PermitTunnel yes",)

# Gives the TAP its address as soon as it exists.  An ARP request that the other side cannot answer
# yet is repeated after 20 ms, because a second would add to the time to the first ping.
GIVE_ADDRESS: Final = """\
until ip link set {device} up 2>/dev/null && ip addr add {address}/24 dev {device}; do
    sleep 0.01
done
ip ntable change name arp_cache dev {device} retrans 20
"""

RELAY_SOURCE: Final = Path(__file__).with_name("tap_relay.c")

UP_TIMEOUT_S: Final = 30.0
DOWN_TIMEOUT_S: Final = 10.0


def no_programs(_: Bed) -> list[Program]:
    return []


@dataclass(frozen=True, slots=True)
class Tool:
    """A tunnel, and how to start it.

    Attributes:
        name: its name in the tables.
        start: runs the command that a user types on ``here``.
        daemons: starts the daemons that have to run before.  They count for CPU and memory, but not
            for the time to the first ping.
        helpers: starts programs in place of the tool's clients; they do not count.
    """

    name: str
    start: Callable[[Bed], Program]
    daemons: Callable[[Bed], list[Program]] = no_programs
    helpers: Callable[[Bed], list[Program]] = no_programs


class Tunnel:
    """A tool that is up for the time of a context.

    Attributes:
        first_ping: seconds from the command to the first answered ping.
        pids: the processes of the tool.
    """

    def __init__(self, bed: Bed, tool: Tool) -> None:
        self.tool = tool
        self.bed = bed
        self.first_ping = 0.0
        self.pids: Pids = {}
        self._programs: list[Program] = []
        self._before: Pids = {}

    def __enter__(self) -> Tunnel:
        with ExitStack() as stack:
            stack.callback(self._end)
            self._start()
            stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _start(self) -> None:
        bed, tool = self.bed, self.tool
        self._before = pids_now(bed)
        self._programs += tool.helpers(bed)
        uncounted = pids_now(bed)
        self._programs += tool.daemons(bed)
        givers = [
            give_address(host, address)
            for host, address in zip((bed.here, bed.there), ADDRESSES, strict=True)
        ]
        began = time.monotonic()
        self._programs.append(tool.start(bed))
        try:
            for giver in givers:
                giver.wait(UP_TIMEOUT_S)
            eventually(lambda: bed.here.reaches(ADDRESSES[1]), "a ping", UP_TIMEOUT_S, every=0)
        except (AssertionError, subprocess.TimeoutExpired) as exc:
            logs = "".join(f"{' '.join(p.command)}:\n{p.log}\n" for p in self._programs)
            raise AssertionError(f"{tool.name} did not come up:\n{logs}") from exc
        finally:
            for giver in givers:
                giver.kill()
                giver.wait()
        self.first_ping = time.monotonic() - began
        self.pids = pids_since(bed, uncounted)

    @property
    def commands(self) -> list[str]:
        """The commands that were started, in order; a user types the last one on ``here``."""
        return [" ".join(program.command) for program in self._programs]

    def _end(self) -> None:
        """Stop the programs, the last one first, and wait until nothing of the tool is left."""
        for program in reversed(self._programs):
            if program.process.poll() is None:
                program.signal(signal.SIGTERM)
            program.status()
        eventually(self._has_ended, f"the end of {self.tool.name}", DOWN_TIMEOUT_S)

    def _has_ended(self) -> bool:
        return not any(
            pids_since(self.bed, self._before)[host.name] or DEVICE in host.interfaces()
            for host in (self.bed.here, self.bed.there)
        )


def give_address(host: Host, address: str) -> subprocess.Popen[bytes]:
    """Start a script that gives the TAP of a host this address when it exists."""
    return host.start("bash", "-c", GIVE_ADDRESS.format(device=DEVICE, address=address))


def wait_for_listener(host: Host, path: str) -> None:
    """Wait until a program listens on a Unix socket at this path, or below it."""
    eventually(lambda: path in host.output("ss", "-Hxl"), f"a listener on {path}")


# --- vknet ----------------------------------------------------------------------------------------


def vknet(*options: str) -> Callable[[Bed], Program]:
    """Return what runs vknet between two TAPs that it creates."""
    return lambda bed: Program(bed.here, "vknet", *options, DEVICE, f"there:{DEVICE}")


def vknet_to_v1(bed: Bed) -> Program:
    """Run vknet to a remote half that is not told its client speaks v2, and so speaks v1."""
    remote = bed.there.script(
        "vknet-v1",
        'for word; do case $word in -B | wire=2) ;; *) set -- "$@" "$word" ;; esac; shift; done\n'
        'exec vknet "$@"',
    )
    return vknet("--remote-command", remote)(bed)


def vknet_between_sockets(bed: Bed) -> Program:
    """Run vknet between two SOCK_SEQPACKET sockets."""
    return Program(bed.here, "vknet", socket_of(bed.here), f"there:{socket_of(bed.there)}")


def socket_of(host: Host) -> str:
    return str(host.directory / "switch")


def taps_on_sockets(bed: Bed) -> list[Program]:
    """Join a TAP to a listening SOCK_SEQPACKET socket with `tap_relay.c`, on both hosts."""
    relay = bed.directory / "tap_relay"
    if not relay.exists():
        subprocess.run(["gcc", "-O2", "-Wall", "-o", relay, RELAY_SOURCE], check=True)
    programs = []
    for host in (bed.here, bed.there):
        programs.append(Program(host, str(relay), DEVICE, socket_of(host)))
        wait_for_listener(host, socket_of(host))
    return programs


# --- other tunnels --------------------------------------------------------------------------------


def ssh_w(bed: Bed) -> Program:
    """Run the tunnel of OpenSSH, in Ethernet mode."""
    unit = DEVICE.removeprefix("tap")
    return Program(bed.here, "ssh", "-NT", "-o", "Tunnel=ethernet", "-w", f"{unit}:{unit}", "there")


def vde_switches(bed: Bed) -> list[Program]:
    """Start a vde_switch with a TAP on both hosts."""
    programs = []
    for host in (bed.here, bed.there):
        # It ends at the end of stdin, which is its console.
        command = ("vde_switch", "-s", vde_of(host), "-t", DEVICE)
        programs.append(Program(host, *command, stdin=subprocess.PIPE))
        wait_for_listener(host, vde_of(host))
    return programs


def vde_of(host: Host) -> str:
    return str(host.directory / "vde.ctl")


def vde_plug(bed: Bed) -> Program:
    """Run vde_plug on both sides of ssh, between the two switches."""
    return Program(
        bed.here, "vde_plug", vde_of(bed.here), "=", "ssh", "there", "vde_plug", vde_of(bed.there)
    )


def openvpn_server(bed: Bed) -> list[Program]:
    """Start the OpenVPN server.  Each side trusts the fingerprint of the other's certificate."""
    for host in (bed.here, bed.there):
        if not (host.directory / "openvpn.crt").exists():
            make_certificate(host)
    server = Program(
        bed.there, *openvpn(bed.there, bed.here), "--proto", "tcp-server", "--tls-server",
        "--dh", "none",
    )  # fmt: skip
    eventually(lambda: bed.there.output("ss", "-Hltn", "sport = :1194"), "openvpn listening")
    return [server]


def openvpn_client(bed: Bed) -> Program:
    """Run OpenVPN with a TAP over TCP, without compression, with the cipher that is negotiated."""
    return Program(
        bed.here, *openvpn(bed.here, bed.there), "--proto", "tcp-client", "--tls-client",
        "--remote", bed.THERE4,
    )  # fmt: skip


def openvpn(host: Host, peer: Host) -> list[str]:
    return [
        "openvpn", "--dev", DEVICE, "--dev-type", "tap",
        "--cert", str(host.directory / "openvpn.crt"),
        "--key", str(host.directory / "openvpn.key"),
        "--peer-fingerprint", fingerprint(peer),
    ]  # fmt: skip


def make_certificate(host: Host) -> None:
    host.run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", f"/CN={host.name}",
        "-keyout", str(host.directory / "openvpn.key"),
        "-out", str(host.directory / "openvpn.crt"),
    )  # fmt: skip


def fingerprint(host: Host) -> str:
    certificate = str(host.directory / "openvpn.crt")
    output = host.output("openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256")
    found = re.search(r"=([\dA-F:]+)", output)
    if found is None:
        raise AssertionError(f"no fingerprint in: {output}")
    return found[1]


TOOLS: Final = (
    Tool("vknet", vknet()),
    Tool("vknet --offload off", vknet("--offload", "off")),
    Tool("vknet, wire v1", vknet_to_v1),
    Tool("vknet, sockets", vknet_between_sockets, helpers=taps_on_sockets),
    Tool("ssh -w", ssh_w),
    Tool("vde", vde_plug, daemons=vde_switches),
    Tool("OpenVPN", openvpn_client, daemons=openvpn_server),
)
