"""The switch with clients on real sockets, so that the endpoint of a port can be full."""

from __future__ import annotations

import math
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing

from tests.support.links import running
from tests.support.packets import BROADCAST, station_frame, station_mac
from vknet import EndpointGone, SeqpacketEndpoint, Switch
from vknet.counters import DropReason
from vknet.endpoints.mmsg import CHUNK, receive_messages
from vknet.switch.switch import QUEUE_FRAMES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from vknet.framing import Frame


# It holds about two hundred of the frames used here.
SMALL_BUFFER_BYTES: Final = 1 << 16


@pytest.fixture(autouse=True)
def _wait_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port waits for its client without a time limit, so no test depends on speed."""
    monkeypatch.setattr("vknet.endpoints.seqpacket.SEND_TIMEOUT_S", math.inf)


@asynccontextmanager
async def clients(count: int) -> AsyncIterator[tuple[Switch, list[socket.socket]]]:
    """A switch, and the sockets of its clients; client n has the address `station_mac(n)`."""
    switch = Switch()
    plugs = []

    async def port(endpoint: SeqpacketEndpoint) -> None:
        async with endpoint:
            with suppress(EndpointGone):
                await switch.serve(endpoint)

    async with running() as nursery:
        for number in range(count):
            plug, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            plug.setblocking(False)
            nursery.start_soon(port, SeqpacketEndpoint(inner, f"port{number}"))
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER_BYTES)
            await trio.testing.wait_all_tasks_blocked()
            plugs.append(plug)
        for number, plug in enumerate(plugs):
            plug.send(station_frame(BROADCAST, station_mac(number)))
            for other in plugs:
                if other is not plug:
                    await trio.lowlevel.wait_readable(other)
                    other.recv(2000)
        yield switch, plugs
    for plug in plugs:
        plug.close()


def numbered(to: bytes, start: int, count: int) -> list[bytes]:
    """Frames of client 0, each with its number behind the header."""
    return [
        station_frame(to, station_mac(0), payload=n.to_bytes(4, "big"))
        for n in range(start, start + count)
    ]


def numbers(frames: Iterable[Frame]) -> list[int]:
    return [int.from_bytes(one[14:18], "big") for one in frames]


def receive_waiting(plug: socket.socket) -> list[bytes]:
    """Receive all frames that wait in the socket of a client."""
    got: list[bytes] = []
    with suppress(BlockingIOError):
        while True:
            got += receive_messages(plug.fileno(), CHUNK)[0]
    return got


async def receive_count(plug: socket.socket, count: int) -> list[bytes]:
    """Wait for this number of frames or more, and receive them."""
    got: list[bytes] = []
    with trio.fail_after(10):
        while len(got) < count:
            await trio.lowlevel.wait_readable(plug)
            got += receive_waiting(plug)
    return got


async def switch_has_read(switch: Switch, count: int) -> None:
    """Wait until the switch has read this number of frames of client 0, after its first one."""
    with trio.fail_after(10):
        while switch.ports[0].counters.inbound.frames < 1 + count:
            await trio.lowlevel.checkpoint()


async def test_frames_that_the_endpoint_takes_at_once_do_not_wake_the_writer() -> None:
    async with clients(2) as (switch, (a, b)):
        ports = switch.ports
        before = ports[1].writer_wakeup
        sent = numbered(station_mac(1), 0, 50)
        for one in sent:
            a.send(one)
        assert await receive_count(b, 50) == sent
        assert ports[1].writer_wakeup is before
        assert not before.is_set()
        # The first frame of client 0, and these.
        assert ports[1].counters.outbound.frames == 1 + 50
        assert ports[1].counters.outbound.bytes == (1 + 50) * 60


async def test_queued_and_unqueued_frames_keep_their_order() -> None:
    async with clients(2) as (switch, (a, b)):
        port = switch.ports[1]
        got: list[bytes] = []
        sent = 0
        # Client 1 reads once in each round: its socket fills, then the queue of its port.
        for _ in range(12):
            assert not port.writer_wakeup.is_set()
            while len(port.queue) < QUEUE_FRAMES // 2:
                for one in numbered(station_mac(1), sent, 100):
                    await trio.lowlevel.wait_writable(a)
                    a.send(one)
                sent += 100
                await switch_has_read(switch, sent)
            # The socket has room again, and more frames come before the writer has run.
            got += receive_waiting(b)
            for one in numbered(station_mac(1), sent, 5):
                a.send(one)
            sent += 5
            got += await receive_count(b, sent - len(got))
            await trio.testing.wait_all_tasks_blocked()
        assert not port.snapshot().outbound.drops
        assert numbers(got) == list(range(sent))


async def test_client_that_stops_reading_loses_only_its_own_frames() -> None:
    async with clients(3) as (switch, (a, stopped, c)):
        got: list[bytes] = []
        for turn in range(40):
            for one in numbered(BROADCAST, turn * 50, 50):
                await trio.lowlevel.wait_writable(a)
                a.send(one)
            got += await receive_count(c, 50)
        assert numbers(got) == list(range(2000))
        port = switch.ports[1]
        assert list(port.counters.outbound.drops) == [DropReason.QUEUE_FULL]
        # The frames that were dropped are older than those that are queued.
        kept = numbers(port.queue.pull(trio.current_time(), 10**9))
        assert kept == list(range(2000 - len(kept), 2000))
        assert QUEUE_FRAMES - 20 < len(kept) <= QUEUE_FRAMES
        held = numbers(receive_waiting(stopped))
        assert held == list(range(len(held)))


async def test_client_that_reads_again_gets_queued_and_new_frames() -> None:
    async with clients(2) as (switch, (a, b)):
        for one in numbered(station_mac(1), 0, 2000):
            await trio.lowlevel.wait_writable(a)
            a.send(one)
        await switch_has_read(switch, 2000)
        port = switch.ports[1]
        got = numbers(
            await receive_count(b, 2000 - port.counters.outbound.drops[DropReason.QUEUE_FULL])
        )
        assert got == sorted(got)
        assert got[-1] == 1999
        await trio.testing.wait_all_tasks_blocked()
        assert not port.writer_wakeup.is_set()
        sent = numbered(station_mac(1), 2000, 1)
        a.send(sent[0])
        assert await receive_count(b, 1) == sent


async def test_client_that_hangs_up_under_a_flood_ends_only_its_own_port() -> None:
    async with clients(3) as (switch, (a, b, c)):
        for one in numbered(station_mac(1), 0, 100):
            a.send(one)
        b.close()
        with trio.fail_after(10):
            while len(switch.ports) == 3:
                await trio.lowlevel.checkpoint()
        # Its address is unknown again, so this frame is flooded.
        a.send(numbered(station_mac(1), 100, 1)[0])
        with trio.fail_after(10):
            while 100 not in numbers(receive_waiting(c)):
                await trio.lowlevel.wait_readable(c)


async def test_cancelled_port_with_queued_frames_leaves_the_switch_empty() -> None:
    async with clients(2) as (switch, (a, _)):
        for one in numbered(station_mac(1), 0, 2000):
            await trio.lowlevel.wait_writable(a)
            a.send(one)
        await switch_has_read(switch, 2000)
        assert switch.ports[1].queue
    assert switch.ports == []
    assert len(switch.table) == 0


@pytest.mark.parametrize("tag", [0, 7], ids=["untagged", "tagged"])
async def test_frames_follow_a_station_that_moves_within_a_batch(tag: int) -> None:
    async with clients(2) as (_, (a, b)):
        b.send(station_frame(BROADCAST, station_mac(9), vlan=tag))
        await receive_count(a, 1)
        to_nine = station_frame(station_mac(9), station_mac(0), vlan=tag)
        # One batch: a frame to station 9 behind b, then frames of and to station 9 behind a.
        for one in (
            to_nine,
            station_frame(BROADCAST, station_mac(9), vlan=tag),
            to_nine,
            station_frame(BROADCAST, station_mac(0)),
        ):
            a.send(one)
        got = await receive_count(b, 3)
        assert got == [
            to_nine,
            station_frame(BROADCAST, station_mac(9), vlan=tag),
            station_frame(BROADCAST, station_mac(0)),
        ]
