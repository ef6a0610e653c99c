"""The switch between clients on real sockets, where a port's endpoint can be full."""

from __future__ import annotations

import math
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing

from tests.switch.test_switch import EVERYBODY, frame, mac
from vknet import EndpointGone, SeqpacketEndpoint, Switch
from vknet.counters import DropReason
from vknet.endpoints.mmsg import CHUNK, receive_messages
from vknet.switch.switch import QUEUE_FRAMES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from vknet.framing import Frame


# Soon full: it holds some two hundred of these frames.
SMALL_BUFFER: Final = 1 << 16


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port waits for its client for ever, so that nothing here depends on how fast this runs."""
    monkeypatch.setattr("vknet.endpoints.seqpacket.SEND_TIMEOUT_S", math.inf)


@asynccontextmanager
async def clients(count: int) -> AsyncIterator[tuple[Switch, list[socket.socket]]]:
    """A switch, and the far ends of its ports' sockets; client n has the address `mac(n)`."""
    switch = Switch()
    plugs = []

    async def port(endpoint: SeqpacketEndpoint) -> None:
        async with endpoint:
            with suppress(EndpointGone):
                await switch.serve(endpoint)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            plug, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            plug.setblocking(False)
            nursery.start_soon(port, SeqpacketEndpoint(inner, f"port{number}"))
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
            await trio.testing.wait_all_tasks_blocked()
            plugs.append(plug)
        for number, plug in enumerate(plugs):
            plug.send(frame(EVERYBODY, mac(number)))
            for other in plugs:
                if other is not plug:
                    await trio.lowlevel.wait_readable(other)
                    other.recv(2000)
        yield switch, plugs
        nursery.cancel_scope.cancel()
    for plug in plugs:
        plug.close()


def numbered(to: bytes, start: int, count: int) -> list[bytes]:
    """Frames of client 0, with their numbers behind the header."""
    return [frame(to, mac(0), payload=n.to_bytes(4, "big")) for n in range(start, start + count)]


def numbers(frames: Iterable[Frame]) -> list[int]:
    return [int.from_bytes(one[14:18], "big") for one in frames]


def waiting(plug: socket.socket) -> list[bytes]:
    """All that waits at a client."""
    got: list[bytes] = []
    with suppress(BlockingIOError):
        while True:
            got += receive_messages(plug.fileno(), CHUNK)[0]
    return got


async def arrived(plug: socket.socket, count: int) -> list[bytes]:
    """So many frames, at least."""
    got: list[bytes] = []
    with trio.fail_after(10):
        while len(got) < count:
            await trio.lowlevel.wait_readable(plug)
            got += waiting(plug)
    return got


async def brought(switch: Switch, count: int) -> None:
    """Until client 0 has brought so many frames into the switch, its first one apart."""
    with trio.fail_after(10):
        while switch.ports[0].counters.inbound.frames < 1 + count:
            await trio.lowlevel.checkpoint()


async def test_a_frame_that_the_endpoint_takes_at_once_wakes_no_writer() -> None:
    async with clients(2) as (switch, (a, b)):
        ports = switch.ports
        before = ports[1].arrived
        sent = numbered(mac(1), 0, 50)
        for one in sent:
            a.send(one)
        assert await arrived(b, 50) == sent
        assert ports[1].arrived is before
        assert not before.is_set()
        # The one frame that told its address, and these.
        assert ports[1].counters.outbound.frames == 1 + 50
        assert ports[1].counters.outbound.bytes == (1 + 50) * 60


async def test_frames_keep_their_order_whether_they_had_to_wait_or_not() -> None:
    async with clients(2) as (switch, (a, b)):
        port = switch.ports[1]
        got: list[bytes] = []
        sent = 0
        # Client 1 reads only now and then: its socket fills, then its port's queue, and so on.
        for _ in range(12):
            assert not port.arrived.is_set()
            while len(port.waiting) < QUEUE_FRAMES // 2:
                for one in numbered(mac(1), sent, 100):
                    await trio.lowlevel.wait_writable(a)
                    a.send(one)
                sent += 100
                await brought(switch, sent)
            # Room that the writer has not seen yet, and at the same moment more to send.
            got += waiting(b)
            for one in numbered(mac(1), sent, 5):
                a.send(one)
            sent += 5
            got += await arrived(b, sent - len(got))
            await trio.testing.wait_all_tasks_blocked()
        assert not port.snapshot().outbound.drops
        assert numbers(got) == list(range(sent))


async def test_a_client_that_stops_reading_loses_only_its_own_frames() -> None:
    async with clients(3) as (switch, (a, stopped, c)):
        got: list[bytes] = []
        for turn in range(40):
            for one in numbered(EVERYBODY, turn * 50, 50):
                await trio.lowlevel.wait_writable(a)
                a.send(one)
            got += await arrived(c, 50)
        assert numbers(got) == list(range(2000))
        port = switch.ports[1]
        assert list(port.counters.outbound.drops) == [DropReason.QUEUE_FULL]
        # What it missed is older than what its port still has for it.
        kept = numbers(port.waiting.pull(trio.current_time(), 10**9))
        assert kept == list(range(2000 - len(kept), 2000))
        assert QUEUE_FRAMES - 20 < len(kept) <= QUEUE_FRAMES
        held = numbers(waiting(stopped))
        assert held == list(range(len(held)))


async def test_a_client_that_reads_again_gets_what_waited_and_what_is_new() -> None:
    async with clients(2) as (switch, (a, b)):
        for one in numbered(mac(1), 0, 2000):
            await trio.lowlevel.wait_writable(a)
            a.send(one)
        await brought(switch, 2000)
        port = switch.ports[1]
        got = numbers(await arrived(b, 2000 - port.counters.outbound.drops[DropReason.QUEUE_FULL]))
        assert got == sorted(got)
        assert got[-1] == 1999
        await trio.testing.wait_all_tasks_blocked()
        assert not port.arrived.is_set()
        sent = numbered(mac(1), 2000, 1)
        a.send(sent[0])
        assert await arrived(b, 1) == sent


async def test_a_client_that_hangs_up_under_a_flood_ends_only_its_own_port() -> None:
    async with clients(3) as (switch, (a, b, c)):
        for one in numbered(mac(1), 0, 100):
            a.send(one)
        b.close()
        with trio.fail_after(10):
            while len(switch.ports) == 3:
                await trio.lowlevel.checkpoint()
        # Its address is unknown again, so this is for everybody.
        a.send(numbered(mac(1), 100, 1)[0])
        with trio.fail_after(10):
            while 100 not in numbers(waiting(c)):
                await trio.lowlevel.wait_readable(c)


async def test_a_port_that_is_cancelled_with_frames_waiting_leaves_nothing_behind() -> None:
    async with clients(2) as (switch, (a, _)):
        for one in numbered(mac(1), 0, 2000):
            await trio.lowlevel.wait_writable(a)
            a.send(one)
        await brought(switch, 2000)
        assert switch.ports[1].waiting
    assert switch.ports == []
    assert len(switch.table) == 0


@pytest.mark.parametrize("tag", [0, 7], ids=["untagged", "tagged"])
async def test_a_station_that_moves_within_a_batch_is_looked_for_where_it_is(tag: int) -> None:
    async with clients(2) as (_, (a, b)):
        b.send(frame(EVERYBODY, mac(9), tag))
        await arrived(a, 1)
        to_nine = frame(mac(9), mac(0), tag)
        # One batch: to station 9 behind b, then station 9 turns up behind a itself.
        for one in (to_nine, frame(EVERYBODY, mac(9), tag), to_nine, frame(EVERYBODY, mac(0))):
            a.send(one)
        got = await arrived(b, 3)
        assert got == [to_nine, frame(EVERYBODY, mac(9), tag), frame(EVERYBODY, mac(0))]
