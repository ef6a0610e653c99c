"""A running vknetd, with clients that behave and clients that do not."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.hosts import eventually
from tests.support.packets import BROADCAST
from tests.support.packets import station_frame as frame
from tests.support.packets import station_mac as mac
from tests.support.vknetd import VKNETD, Vknetd, client, receive, running
from vknet.counters import DropReason
from vknet.packet.ethernet import LONGEST_FRAME
from vknet.switch.table import ENTRIES_MAX
from vknet.vknetd.control import BUSY, CONNECTIONS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Vknetd]:
    with running(tmp_path) as daemon:
        yield daemon


def test_three_clients_are_on_one_ethernet(daemon: Vknetd) -> None:
    with client(daemon) as a, client(daemon) as b, client(daemon) as c:
        question, answer = frame(BROADCAST, mac(1)), frame(mac(1), mac(2))
        a.send(question)
        assert [receive(b), receive(c)] == [question, question]
        b.send(answer)
        assert receive(a) == answer
        # C did not get the unicast frame to A: the next that it gets is the next broadcast.
        last = frame(BROADCAST, mac(2), b"last")
        b.send(last)
        assert receive(c) == last


def test_client_that_never_reads_loses_only_its_own_frames(daemon: Vknetd) -> None:
    with client(daemon) as a, client(daemon) as b, client(daemon):
        b.send(frame(BROADCAST, mac(2)))
        assert receive(a)
        for number in range(3000):
            # A broadcast also goes to the client that does not read.  B answers each.
            a.send(frame(BROADCAST, mac(1), number.to_bytes(4, "big") * 300))
            received = receive(b)
            assert received[14:18] == number.to_bytes(4, "big")
            b.send(frame(mac(1), mac(2), received[14:18]))
            assert receive(a)[14:18] == number.to_bytes(4, "big")
        ports = {number: daemon.port(number)["out"] for number in (1, 2, 3)}
        assert ports[1]["drops"] == ports[2]["drops"] == {}
        drops = ports[3]["drops"]
        assert set(drops) <= {
            DropReason.QUEUE_FULL,
            DropReason.QUEUE_DELAY,
            DropReason.ENDPOINT_FULL,
        }
        assert sum(drops.values()) > 0
        waiting = daemon.port(3)["waiting_frames"]
        assert waiting <= 1024


def test_two_hundred_clients_leave_nothing_behind(daemon: Vknetd) -> None:
    with client(daemon) as stays:
        before = daemon.descriptors()
        for round_ in range(2):
            with ExitStack() as stack:
                clients = [stack.enter_context(client(daemon)) for _ in range(100)]
                for number, sock in enumerate(clients, start=1000):
                    sock.send(frame(BROADCAST, mac(number)))
                for _ in clients:
                    assert receive(stays)
                assert len(daemon.wait_for_clients(101)["ports"]) == 101
            daemon.wait_for_log(" disconnected", 100 * (round_ + 1))
            status = daemon.wait_for_clients(1)
            assert len(status["ports"]) == 1
            assert status["table"]["entries"] == []
        eventually(lambda: daemon.descriptors() == before, "as many descriptors as before")


def test_runts_giants_and_empty_messages_are_dropped_and_counted(daemon: Vknetd) -> None:
    with client(daemon) as a, client(daemon) as b:
        a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        largest = frame(BROADCAST, mac(1), bytes(LONGEST_FRAME - 14))
        good = frame(BROADCAST, mac(1), b"good")
        for message in (b"", b"x", bytes(13), b"", largest + b"!", largest, good):
            a.send(message)
        assert [receive(b), receive(b)] == [largest, good]
        assert daemon.port(1)["in"]["drops"] == {
            DropReason.EMPTY: 2,
            DropReason.TRUNCATED: 1,
            DropReason.RUNT: 2,
        }


def test_flood_of_addresses_evicts_only_those_of_the_flooder(daemon: Vknetd) -> None:
    with client(daemon) as honest, client(daemon) as flooder:
        honest.send(frame(BROADCAST, mac(1)))
        assert receive(flooder)
        for number in range(ENTRIES_MAX + 2000):
            flooder.send(frame(mac(1), mac(1000 + number)))
            assert receive(honest)
        table = daemon.status()["table"]
        assert len(table["entries"]) == ENTRIES_MAX
        assert table["evictions"] == 2001
        assert [e["port"] for e in table["entries"] if e["mac"] == "02:00:00:00:00:01"] == [
            "client1"
        ]


def test_two_clients_with_the_same_address_cause_no_loop(daemon: Vknetd) -> None:
    with client(daemon) as a, client(daemon) as b, client(daemon) as c:
        for sock in (a, b, a):
            sock.send(frame(BROADCAST, mac(1)))
            assert receive(c)
        assert receive(a)
        assert [receive(b), receive(b)] == [frame(BROADCAST, mac(1))] * 2
        c.send(frame(mac(1), mac(3), b"to the last sender"))
        assert receive(a) == frame(mac(1), mac(3), b"to the last sender")
        status = daemon.status()
        assert status["table"]["moves"] == 2
        # Each frame went once to each other port, and none to its own.
        assert [port["out"]["frames"] for port in status["ports"]] == [2, 2, 3]


def test_vknetd_replaces_the_stale_socket_of_a_killed_one(tmp_path: Path) -> None:
    with Vknetd(tmp_path) as first:
        with client(first) as sock:
            first.process.kill()
            first.process.wait()
            assert receive(sock) == b""
        assert first.path.is_socket()
        with running(tmp_path) as second:
            assert "replacing" in second.log
            with client(second) as sock:
                sock.send(frame(BROADCAST, mac(1)))
                eventually(lambda: second.port(1)["in"]["frames"] == 1, "a counted frame")
        assert not second.path.exists()
        assert not second.path.with_name("vknet.ctl").exists()


def test_file_that_replaced_the_socket_is_not_removed(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        daemon.path.unlink()
        daemon.path.write_text("another file")
    assert daemon.path.read_text() == "another file"


def test_clients_above_the_maximum_are_refused_and_counted(tmp_path: Path) -> None:
    with running(tmp_path, "--clients", "2") as daemon, client(daemon) as a, client(daemon) as b:
        for _ in range(3):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as refused:
                refused.settimeout(20)
                refused.connect(str(daemon.path))
                assert receive(refused) == b""
        status = daemon.wait_for_clients(2)
        assert status["clients_refused"] == 3
        b.close()
        daemon.wait_for_log(" disconnected")
        with client(daemon) as d:
            d.send(frame(BROADCAST, mac(4)))
            assert receive(a) == frame(BROADCAST, mac(4))
            assert daemon.wait_for_clients(2)["clients_refused"] == 3


def test_status_names_the_process_of_each_client(daemon: Vknetd) -> None:
    with client(daemon):
        port = daemon.port(1)
        assert port["pid"] > 0
        assert port["uid"] == port["gid"] == 0 or port["uid"] > 0
        assert port["command"]
        done = subprocess.run(
            [*VKNETD, "--status", "-p", str(daemon.path)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"pid {port['pid']}" in done.stdout
        assert "1 of 256 clients" in done.stdout
        daemon.process.send_signal(signal.SIGUSR1)
        daemon.wait_for_log("1 of 256 clients")


def test_several_signals_stop_it_like_one(tmp_path: Path) -> None:
    for _ in range(5):
        with Vknetd(tmp_path) as daemon:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
                with suppress(ProcessLookupError):
                    daemon.process.send_signal(number)
            assert daemon.process.wait(20) == 0
            assert not daemon.path.exists()


def test_status_requests_use_a_bounded_number_of_descriptors(tmp_path: Path) -> None:
    with running(tmp_path) as daemon, client(daemon) as a, ExitStack() as stack:
        for number in range(6000):
            a.send(frame(BROADCAST, mac(number + 1)))
        eventually(lambda: daemon.port(1)["addresses"] == 6000, "6000 learned addresses")
        before = daemon.descriptors()
        for _ in range(200):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(f"{daemon.path}.ctl")
        # A connection above the maximum is told so, and closed.
        sock.settimeout(20)
        assert sock.recv(100) == BUSY
        assert sock.recv(100) == b""
        assert daemon.descriptors() <= before + CONNECTIONS_MAX + 1


def test_status_request_that_is_never_read_does_not_block_others(daemon: Vknetd) -> None:
    with ExitStack() as stack:
        for _ in range(50):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(f"{daemon.path}.ctl")
        with client(daemon) as a, client(daemon) as b:
            a.send(frame(BROADCAST, mac(1)))
            assert receive(b)
            daemon.wait_for_clients(2)


def test_parent_exits_when_the_daemon_is_ready(tmp_path: Path) -> None:
    path = tmp_path / "vknet"
    command = [*VKNETD, "-t", "none", "-p", str(path)]
    started = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert f"ready: listening on {path}, no uplink" in started.stderr
    answer = subprocess.run(
        [*VKNETD, "--status", "--json", "-p", str(path)], capture_output=True, check=True
    )
    pid = json.loads(answer.stdout)["pid"]
    try:
        # It has detached from the terminal, and so gets no signals from it.
        assert os.getsid(pid) == pid
        assert {str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in (0, 1, 2)} == {"/dev/null"}
        again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        assert again.returncode == 1
        assert "stop it, or choose another socket with -p" in again.stderr
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not path.exists(), "a removed socket")


def test_client_that_disconnects_during_a_flood_does_no_harm(daemon: Vknetd) -> None:
    with client(daemon) as a, client(daemon) as b:
        for _ in range(500):
            b.send(frame(BROADCAST, mac(2)))
        b.close()
        daemon.wait_for_log(" disconnected")
        for _ in range(500):
            assert receive(a) == frame(BROADCAST, mac(2))
        assert daemon.status()["table"]["entries"] == []


def limit_descriptors(number: int) -> Callable[[], None]:
    """Return a function for a child process that limits its open descriptors."""
    return partial(resource.setrlimit, resource.RLIMIT_NOFILE, (number, number))


def test_exhausted_descriptors_disturb_no_client(tmp_path: Path) -> None:
    limit = limit_descriptors(40)
    with running(tmp_path, preexec_fn=limit) as daemon, client(daemon) as a, client(daemon) as b:
        with ExitStack() as stack:
            for _ in range(60):
                sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                sock.connect(str(daemon.path))
            daemon.wait_for_log("cannot accept a client: Too many open files; raise the limit")
            a.send(frame(BROADCAST, mac(1)))
            assert receive(b) == frame(BROADCAST, mac(1))
        daemon.wait_for_clients(2)
        with client(daemon) as c:
            # After a refusal vknetd accepts again only after a pause.
            daemon.wait_for_clients(3)
            a.send(frame(BROADCAST, mac(1), b"again"))
            assert receive(c) == frame(BROADCAST, mac(1), b"again")
        assert daemon.log.count("cannot accept a client") == 1


@pytest.mark.parametrize("number", [5, 7, 8])
def test_too_few_descriptors_to_start_are_one_clear_line(tmp_path: Path, number: int) -> None:
    # Measuring coverage needs descriptors as well.
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    done = subprocess.run(
        [*VKNETD, "-d", "-t", "none", "-p", str(tmp_path / "vknet")],
        capture_output=True,
        text=True,
        check=False,
        env=env,
        preexec_fn=limit_descriptors(number),
        timeout=60,
    )
    assert done.returncode == 1
    assert "too many open files" in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1


def test_helper_kills_a_vknetd_that_does_not_become_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_out(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("tests.support.vknetd.eventually", time_out)
    daemon = Vknetd(tmp_path)
    with pytest.raises(TimeoutError), daemon:
        pass
    assert daemon.process.returncode == -signal.SIGKILL
