"""Super-frames between real hosts: how the kernels segment them, and where they stay whole."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from testbed.hosts import REPOSITORY, Bed, Host, eventually
from testbed.program import Program
from tests.support.lan import LAN_HERE, LAN_THERE, Lan, transfer
from tests.support.one_client_switch import OneClientSwitch
from tests.support.superframes import DESTINATION, SOURCE, Super, checksums_hold, parts

if TYPE_CHECKING:
    from collections.abc import Iterator

SUPPORT: Final = REPOSITORY / "tests/support"
PEER: Final = f"{sys.executable} {SUPPORT / 'peer_2008.py'}"
# 20 MB, or as many times that as asked for: 108 of them make four gigabytes of the transfer that
# outlives its peers (with --timeout=1200).
DATA: Final = random.Random(2008).randbytes(20_000_000) * int(os.environ.get("TEST_COPIES", "1"))
DIGEST: Final = hashlib.sha256(DATA).hexdigest()
LAN_BEHIND: Final = "198.18.1.3"

OFFLOAD_CHECKS: Final = 11


def output_of(host: Host, module: str) -> list[str]:
    """What a module of the tests prints that runs on a host."""
    environment = {"PYTHONPATH": str(REPOSITORY)}
    done = host.output(sys.executable, "-m", module, env=environment, timeout=200)
    return done.splitlines()


def carried(vknet: Program) -> list[tuple[int, int]]:
    """Frames and bytes, out and in, as the program says them at its end."""
    assert vknet.stop() == 0
    counts = re.findall(r"(?:out|in) (\d+) frames, (\d+) bytes", vknet.log.splitlines()[-1])
    return [(int(frames), int(size)) for frames, size in counts]


def test_segments_equal_those_of_the_kernel(here: Host) -> None:
    said = output_of(here, "tests.support.kernel_segments")
    outcome = json.loads(said[-1])
    assert "differs" not in outcome, said
    assert outcome["segments"] > 500
    assert outcome["whole"] > 100
    assert outcome["refused here"] > 1000


def test_tap_passes_every_offload_check(here: Host) -> None:
    said = output_of(here, "tests.support.tap_offload")
    assert len([line for line in said if line.startswith("passed ")]) == OFFLOAD_CHECKS


@pytest.mark.parametrize(
    "options", [(), ("--offload", "off"), ("--remote-command", "vknet --offload off")]
)
def test_every_byte_arrives_in_both_directions(lan: Lan, options: tuple[str, ...]) -> None:
    vknet = lan.vknet(*options)
    lan.carries()
    here, there = lan.bed.here, lan.bed.there
    assert transfer(here, there, LAN_THERE, DATA) == DIGEST
    assert transfer(there, here, LAN_HERE, DATA) == DIGEST
    for frames, size in carried(vknet):
        # Half of them are acknowledgements.
        assert (size / frames > 1600) == (options == ()), "super-frames, or none"


@pytest.fixture
def behind(lan: Lan) -> Iterator[Host]:
    """A third host, at a plain port of the bridge there."""
    there = lan.bed.there
    with Host("behind", lan.bed.directory) as host:
        there.ip("link", "add", "port0", "type", "veth", "peer", "name", "port1")
        there.ip("link", "set", "port1", "netns", str(host.init), "name", "eth0")
        for one, name in ((there, "port0"), (host, "eth0")):
            one.run(sys.executable, str(SUPPORT / "plain_port.py"), name)
            one.ip("link", "set", name, "up")
        there.ip("link", "set", "port0", "master", "bridge0")
        host.ip("addr", "add", f"{LAN_BEHIND}/24", "dev", "eth0")
        yield host


def test_plain_port_behind_the_bridge_sees_plain_frames_only(lan: Lan, behind: Host) -> None:
    here = lan.bed.here
    vknet = lan.vknet()
    lan.carries()
    eventually(lambda: here.reaches(LAN_BEHIND), "a ping to the host behind")
    seen = behind.directory / "seen"
    with seen.open("wb") as out:
        tcpdump = behind.start(
            *("tcpdump", "-i", "eth0", "-nn", "-e", "-vv", "-l", "-B", "65536", "tcp"),
            stdout=out,
            stderr=out,
        )
    eventually(lambda: b"listening" in seen.read_bytes(), "tcpdump listening")
    data = DATA[:4_000_000]
    digest = hashlib.sha256(data).hexdigest()
    assert transfer(here, behind, LAN_BEHIND, data) == digest
    assert transfer(behind, here, LAN_HERE, data) == digest
    tcpdump.terminate()
    tcpdump.wait()
    text = seen.read_text()
    lengths = [int(n) for n in re.findall(r"ethertype IPv4 \(0x0800\), length (\d+):", text)]
    assert len(lengths) > 1000
    assert max(lengths) == 1514, "no frame over the MTU"
    assert text.count("(correct)") > 1000
    assert "incorrect" not in text
    assert "bad cksum" not in text
    (frames, size), _ = carried(vknet)
    assert size / frames > 1600, "they were super-frames on the way"


# Sends each file that is named on its standard input, over one connection.
SEND: Final = """\
import socket, sys
with socket.create_connection((sys.argv[1], 5001)) as s:
    for line in sys.stdin:
        s.sendall(open(line.strip(), "rb").read())
"""

RECEIVE: Final = """\
import hashlib, socket, sys
with socket.create_server((sys.argv[1], 5001)) as server:
    print(flush=True)
    connection, _ = server.accept()
    digest = hashlib.sha256()
    while data := connection.recv(65536):
        digest.update(data)
    print(digest.hexdigest())
"""


@pytest.mark.parametrize("way", ["out", "in"])
def test_transfer_survives_a_change_to_a_peer_of_2008_and_back(lan: Lan, way: str) -> None:
    here, there = lan.bed.here, lan.bed.there
    # A bridge whose only port is the TAP of a peer of 2008 would be another station each time.
    there.ip("link", "set", "bridge0", "address", "02:00:00:00:00:99")
    # Every second remote half is of 2008.
    count = there.directory / "count"
    count.write_text("1")
    remote = there.script(
        "vknet-or-2008",
        f"n=$(cat {count}); echo $((n + 1)) > {count}\n"
        f'if ((n % 2)); then exec vknet "$@"; else exec {PEER} "$@"; fi',
    )
    vknet = lan.vknet("-r", "0.1", "--remote-command", remote)
    vknet.says("wire v2")
    lan.carries()
    source, sink, address = (here, there, LAN_THERE) if way == "out" else (there, here, LAN_HERE)
    path = source.directory / "data"
    path.write_bytes(DATA)
    receiver = sink.start(sys.executable, "-c", RECEIVE, address, stdout=subprocess.PIPE)
    assert receiver.stdout is not None
    receiver.stdout.readline()
    sender = source.start(sys.executable, "-c", SEND, address, stdin=subprocess.PIPE)
    assert sender.stdin is not None
    for wire, times in (("v1", 1), ("v2", 2)):
        enough = taken(here, way) + len(DATA) // 4
        sender.stdin.write(f"{path}\n".encode())
        sender.stdin.flush()
        # In the midst of it.
        eventually(partial(has_taken, here, way, enough), "a part of it carried")
        (ssh,) = here.processes("-x -T -e none")
        os.kill(ssh, signal.SIGKILL)
        vknet.says(f"wire {wire}", times=times)
    sender.stdin.close()
    assert receiver.stdout.read().decode().strip() == hashlib.sha256(DATA * 2).hexdigest()


def has_taken(host: Host, way: str, size: int) -> bool:
    return taken(host, way) > size


def taken(host: Host, way: str) -> int:
    """Bytes that have gone through the TAP of a host so far."""
    counts = json.loads(host.ip("-j", "-s", "link", "show", "tap0"))[0]["stats64"]
    return int(counts["tx" if way == "out" else "rx"]["bytes"])


# Sends frames with an offload header out of an interface, as its own host's kernel would.
INJECT: Final = """\
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
s.bind((sys.argv[1], 0))
for line in sys.stdin:
    s.send(bytes.fromhex(line))
"""


def inject(host: Host, interface: str, *frames: Super) -> None:
    lines = "".join(f"{bytes(frame.frame().data).hex()}\n" for frame in frames)
    process = host.start(sys.executable, "-c", INJECT, interface, stdin=subprocess.PIPE)
    process.communicate(lines.encode(), timeout=30)
    assert process.returncode == 0


def test_socket_gets_plain_frames_only(bed: Bed) -> None:
    here, there = bed.here, bed.there
    with OneClientSwitch(there.directory / "switch") as switch:
        vknet = Program(here, "vknet", "-b", "bridge0", "auto", f"there:{switch.path}")
        client = switch.accept()
        vknet.says("link up")
        payload = DATA[:30_000]
        inject(here, "bridge0", Super(payload), Super(payload[:1000], size=0))
        got: list[bytes] = []
        while len(got) < 22:
            frame = client.recv(100_000)
            if frame[:12] == DESTINATION + SOURCE:
                got.append(frame)
        assert b"".join(parts(frame).payload for frame in got) == payload + payload[:1000]
        assert all(map(checksums_hold, got))
        assert max(map(len, got)) <= 1514
        assert vknet.stop() == 0
        # What the kernel itself sent before a slow start was over may be stale.
        assert not re.search(r"dropped \((?!stale\))", vknet.log)


def test_dhcp_has_its_checksum_when_it_arrives(lan: Lan) -> None:
    here, there = lan.bed.here, lan.bed.there
    lan.vknet().says("link up")
    lan.carries()
    seen = there.directory / "seen"
    with seen.open("wb") as out:
        there.start(
            *("tcpdump", "-i", "tap0", "-nn", "-vv", "-l", "udp", "and", "src", LAN_HERE),
            stdout=out,
            stderr=out,
        )
    eventually(lambda: b"listening" in seen.read_bytes(), "tcpdump listening")
    send = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.bind((sys.argv[1], int(sys.argv[3])));"
        "s.sendto(b'x' * 300, (sys.argv[2], int(sys.argv[4])))"
    )
    for source, destination in (("5000", "5001"), ("67", "68")):
        here.run(sys.executable, "-c", send, LAN_HERE, LAN_THERE, source, destination)
    eventually(lambda: b".67 > " in seen.read_bytes(), "the second one seen")
    text = seen.read_text()
    assert re.search(r"\.5000 > .*\n?.*bad udp cksum", text), "others arrive as they were sent"
    assert not re.search(r"\.67 > .*bad udp cksum", text)
