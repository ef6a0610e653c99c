"""The tunnels that are measured: how each is started on two hosts, and ended.

Each is run as its manual says and with its own defaults, and ends in a TAP called `DEVICE` on both
hosts.  Whoever makes that, the address is put on it from outside as soon as it is there, so that
"command to first ping" holds the same work for everybody.
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

# What sshd must allow for `ssh -w`.
SSHD_OPTIONS: Final = ("PermitTunnel yes",)

# Gives the TAP its address as soon as there is one.  An ARP request that came too early for the
# other side is repeated soon, and not after a second: the time to the first ping is the tool's.
GIVE_ADDRESS: Final = """\
until ip link set {device} up 2>/dev/null && ip addr add {address}/24 dev {device}; do
    sleep 0.01
done
ip ntable change name arp_cache dev {device} retrans 20
"""

RELAY_SOURCE: Final = Path(__file__).with_name("tap_relay.c")

UP_WITHIN: Final = 30.0
DOWN_WITHIN: Final = 10.0


def nothing(_: Bed) -> list[Program]:
    return []


@dataclass(frozen=True, slots=True)
class Tool:
    """A tunnel one can start.

    Attributes:
        name: its row.
        start: the command its user types, on ``here``.
        standing: daemons that run before that; they count as the tool's, but for the start.
        helpers: what stands in for the tool's users; not counted.
    """

    name: str
    start: Callable[[Bed], Program]
    standing: Callable[[Bed], list[Program]] = nothing
    helpers: Callable[[Bed], list[Program]] = nothing


class Tunnel:
    """A tool that is up, from the entry of the context to its exit.

    Attributes:
        first_ping: seconds from the command to the first ping that came back.
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
        self._programs += tool.standing(bed)
        givers = [
            give_address(host, address)
            for host, address in zip((bed.here, bed.there), ADDRESSES, strict=True)
        ]
        began = time.monotonic()
        self._programs.append(tool.start(bed))
        try:
            for giver in givers:
                giver.wait(UP_WITHIN)
            eventually(lambda: bed.here.reaches(ADDRESSES[1]), "a ping", UP_WITHIN, every=0)
        except (AssertionError, subprocess.TimeoutExpired) as exc:
            logs = "".join(f"{' '.join(p.command)}:\n{p.log}\n" for p in self._programs)
            raise AssertionError(f"{tool.name} does not come up:\n{logs}") from exc
        finally:
            for giver in givers:
                giver.kill()
                giver.wait()
        self.first_ping = time.monotonic() - began
        self.pids = pids_since(bed, uncounted)

    @property
    def commands(self) -> list[str]:
        """What was started, in that order; the last one is what a user types on ``here``."""
        return [" ".join(program.command) for program in self._programs]

    def _end(self) -> None:
        """Ask everything to end, in the order of a user who tidies up, and see that it has."""
        for program in reversed(self._programs):
            if program.process.poll() is None:
                program.signal(signal.SIGTERM)
            program.status()
        eventually(self._gone, f"the end of {self.tool.name}", DOWN_WITHIN)

    def _gone(self) -> bool:
        return not any(
            pids_since(self.bed, self._before)[host.name] or DEVICE in host.interfaces()
            for host in (self.bed.here, self.bed.there)
        )


def give_address(host: Host, address: str) -> subprocess.Popen[bytes]:
    """Have the TAP of a host given this address once it is there."""
    return host.start("bash", "-c", GIVE_ADDRESS.format(device=DEVICE, address=address))


def listening(host: Host, path: str) -> None:
    """Wait until somebody listens on a Unix socket of this path, or below it."""
    eventually(lambda: path in host.output("ss", "-Hxl"), f"a listener on {path}")


# --- vknet ----------------------------------------------------------------------------------------


def vknet(*options: str) -> Callable[[Bed], Program]:
    """Run vknet between two TAPs that it makes."""
    return lambda bed: Program(bed.here, "vknet", *options, DEVICE, f"there:{DEVICE}")


def vknet_to_v1(bed: Bed) -> Program:
    """Run vknet to a remote half that does not learn what its client can speak, as that of 2008."""
    remote = bed.there.script(
        "vknet-v1",
        'for word; do case $word in -B | wire=2) ;; *) set -- "$@" "$word" ;; esac; shift; done\n'
        'exec vknet "$@"',
    )
    return vknet("--remote-command", remote)(bed)


def vknet_between_sockets(bed: Bed) -> Program:
    """Run vknet between two sockets of SOCK_SEQPACKET."""
    return Program(bed.here, "vknet", socket_of(bed.here), f"there:{socket_of(bed.there)}")


def socket_of(host: Host) -> str:
    return str(host.directory / "switch")


def taps_on_sockets(bed: Bed) -> list[Program]:
    """On both hosts a TAP joined to a listening SOCK_SEQPACKET socket by `tap_relay.c`."""
    relay = bed.directory / "tap_relay"
    if not relay.exists():
        subprocess.run(["gcc", "-O2", "-Wall", "-o", relay, RELAY_SOURCE], check=True)
    programs = []
    for host in (bed.here, bed.there):
        programs.append(Program(host, str(relay), DEVICE, socket_of(host)))
        listening(host, socket_of(host))
    return programs


# --- the others -----------------------------------------------------------------------------------


def ssh_w(bed: Bed) -> Program:
    """OpenSSH's own tunnel, in Ethernet mode."""
    unit = DEVICE.removeprefix("tap")
    return Program(bed.here, "ssh", "-NT", "-o", "Tunnel=ethernet", "-w", f"{unit}:{unit}", "there")


def vde_switches(bed: Bed) -> list[Program]:
    """A vde_switch with a TAP on both hosts."""
    programs = []
    for host in (bed.here, bed.there):
        # Its console is its stdin, and the end of that is its own.
        command = ("vde_switch", "-s", vde_of(host), "-t", DEVICE)
        programs.append(Program(host, *command, stdin=subprocess.PIPE))
        listening(host, vde_of(host))
    return programs


def vde_of(host: Host) -> str:
    return str(host.directory / "vde.ctl")


def vde_plug(bed: Bed) -> Program:
    """The cable between two vde_switches: vde_plug on both sides of ssh."""
    return Program(
        bed.here, "vde_plug", vde_of(bed.here), "=", "ssh", "there", "vde_plug", vde_of(bed.there)
    )


def openvpn_server(bed: Bed) -> list[Program]:
    """OpenVPN waiting for its peer, with certificates that each knows by their fingerprints."""
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
    """OpenVPN with a TAP, over TCP; no compression, and the cipher the two agree on."""
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
    said = host.output("openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256")
    found = re.search(r"=([\dA-F:]+)", said)
    if found is None:
        raise AssertionError(f"no fingerprint in: {said}")
    return found[1]


TOOLS: Final = (
    Tool("vknet", vknet()),
    Tool("vknet --offload off", vknet("--offload", "off")),
    Tool("vknet, wire v1", vknet_to_v1),
    Tool("vknet, sockets", vknet_between_sockets, helpers=taps_on_sockets),
    Tool("ssh -w", ssh_w),
    Tool("vde", vde_plug, standing=vde_switches),
    Tool("OpenVPN", openvpn_client, standing=openvpn_server),
)
