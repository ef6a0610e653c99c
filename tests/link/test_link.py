"""The link without ssh: streams and endpoints in memory, time on a virtual clock.

Rules: no real time passes; a test waits for events, or for the virtual clock to jump.
"""

from __future__ import annotations

import logging
import math
from itertools import repeat
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.support.links import FRAME, TIMEOUT, Peer, Side, ending, frames, hello, running, side
from vknet import (
    Idle,
    Link,
    Monitor,
    PeerGone,
    RemoteProtocolError,
    StreamTransport,
    Wire,
    memory_endpoint_pair,
)
from vknet.framing import (
    FRAME_LIMIT_V1,
    Bye,
    Ping,
    Pong,
    encode_control,
)
from vknet.transport.base import Transport
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio.abc import Stream
    from trio.testing import MockClock

    from tests.support.links import Streams
    from vknet.transport.base import StartSoon


async def test_frames_cross_both_ways_and_are_counted(streams: Streams) -> None:
    one, two = side(streams[0]), side(streams[1])
    async with running(one, two):
        await one.plug.send([FRAME, FRAME[:14]])
        got = await two.plug.receive()
        while len(got) < 2:
            # After a pause the first one goes alone.
            got += await two.plug.receive()
        assert got == [FRAME, FRAME[:14]]
        await two.plug.send([b"x" * 9014])
        assert await one.plug.receive() == [b"x" * 9014]

        counters = one.link.monitor.counters
        assert (counters.outbound.frames, counters.outbound.bytes) == (2, 74)
        assert (counters.inbound.frames, counters.inbound.bytes) == (1, 9014)
        up = await one.up()
        assert (up.wire, up.peer, up.peer_endpoint) == (2, "the other side", "memory-b")


async def test_client_that_receives_a_hello_first_speaks_v2(streams: Streams) -> None:
    client, peer = side(streams[0], Wire.AUTO), Peer(streams[1])
    async with running(client):
        await peer.send(hello())
        answer = await peer.next()
        assert isinstance(answer, Hello)
        assert (await client.up()).wire == 2


async def test_client_that_receives_a_frame_first_speaks_v1_until_the_end(
    streams: Streams, autojump_clock: MockClock
) -> None:
    client, peer = side(streams[0], Wire.AUTO), Peer(streams[1], Wire.V1)
    async with ending(client):
        await peer.send(frames(FRAME))
        assert await client.plug.receive() == [FRAME]
        assert (await client.up()).wire == 1
        # A v1 peer gets only frames, and its silence never ends the link.
        await trio.sleep(10 * TIMEOUT)
        await client.plug.send([bytes(FRAME_LIMIT_V1 + 1), FRAME, bytes(FRAME_LIMIT_V1)])
        assert await peer.next() == FRAME
        assert await peer.next() == bytes(FRAME_LIMIT_V1)
        assert sum(client.link.monitor.counters.outbound.drops.values()) == 1
        assert client.outcome is None
        await peer.send(hello())
    assert isinstance(client.outcome, RemoteProtocolError)


class SlowLogin(StreamTransport):
    """A transport whose peer is reached a minute after the stream is open."""

    async def open(self, start_soon: StartSoon) -> Stream:
        stream = await super().open(start_soon)
        self.reached = trio.Event()
        start_soon(self.log_in)
        return stream

    async def log_in(self) -> None:
        await trio.sleep(60)
        self.reached.set()


async def test_silent_peer_gets_no_byte_until_the_link_gives_up(
    streams: Streams, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    client = side(SlowLogin(streams[0]), Wire.AUTO)
    sent = bytearray()
    with caplog.at_level(logging.INFO, "vknet"):
        async with ending(client):
            await client.plug.send([FRAME])
            while data := await streams[1].receive_some():
                sent += data
    assert trio.current_time() == pytest.approx(60 + 120, abs=1)
    assert not sent
    assert isinstance(client.outcome, PeerGone)
    assert "has not answered as vknet within 120 s" in str(client.outcome)
    assert "--wire 1" in str(client.outcome)
    assert not client.link.was_up
    assert caplog.text.count("waiting for vknet on the peer") == 2


async def test_late_hello_brings_the_link_up(streams: Streams, autojump_clock: MockClock) -> None:
    client, peer = side(streams[0], Wire.AUTO), Peer(streams[1])
    async with running(client):
        await trio.sleep(100)
        assert isinstance(client.link.monitor.state, Idle)
        await peer.send(hello())
        assert isinstance(await peer.next(), Hello)
        assert (await client.up()).wire == 2
        await client.plug.send([FRAME])
        assert await peer.next() == FRAME


@pytest.mark.parametrize("size", range(1, 7))
async def test_peer_gets_no_byte_before_its_first_block_is_whole(
    streams: Streams, autojump_clock: MockClock, size: int
) -> None:
    client = side(streams[0], Wire.AUTO)
    async with running(client):
        await client.plug.send([FRAME])
        await streams[1].send_all(frames(FRAME)[:size])
        with trio.move_on_after(50):
            raise AssertionError(await streams[1].receive_some())


async def test_client_with_wire_1_sends_when_the_peer_is_reached(
    streams: Streams, autojump_clock: MockClock
) -> None:
    client, peer = side(SlowLogin(streams[0]), Wire.V1), Peer(streams[1], Wire.V1)
    async with running(client):
        await trio.sleep(59)
        await client.plug.send([FRAME])
        await trio.sleep(2)
        # This frame may have waited for a minute.
        assert client.link.monitor.counters.outbound.drops == {"early": 1}
        await client.plug.send([FRAME[::-1]])
        assert await peer.next() == FRAME[::-1]
        assert not client.link.was_up, "the peer has not answered"
        await peer.send(frames(FRAME))
        assert (await client.up()).wire == 1


@pytest.mark.parametrize(
    "pieces",
    [(encode_control(hello())[i : i + 1] for i in range(50)), repeat(frames(FRAME))],
    ids=["a slow hello", "frames"],
)
async def test_v2_side_gives_up_a_peer_that_sends_no_whole_hello(
    streams: Streams, autojump_clock: MockClock, pieces: Iterable[bytes]
) -> None:
    remote, peer = side(streams[0], Wire.V2), Peer(streams[1])

    async def send() -> None:
        for piece in pieces:
            await streams[1].send_all(piece)
            await trio.sleep(TIMEOUT / 2)

    async with running(send), ending(remote):
        assert isinstance(await peer.next(), Hello)
    assert "has sent no HELLO within 120 s" in str(remote.outcome)
    assert not remote.link.was_up


async def test_link_adapts_the_stream_of_a_transport(streams: Streams) -> None:
    class Plain(Transport):
        async def open(self, start_soon: StartSoon) -> Stream:
            del start_soon
            self.reached.set()
            return streams[0]

    one, peer = side(Plain("the other side")), Peer(streams[1])
    async with running(one):
        assert isinstance(await peer.next(), Hello)
        await peer.send(hello())
        assert (await one.up()).peer == "the other side"


async def test_remote_half_without_the_mark_speaks_v1_at_once(streams: Streams) -> None:
    remote, peer = side(streams[0], Wire.V1), Peer(streams[1], Wire.V1)
    async with ending(remote):
        await remote.plug.send([FRAME])
        assert await peer.next() == FRAME
        await peer.send(encode_control(Ping(1)))
    assert isinstance(remote.outcome, RemoteProtocolError)


async def test_frames_before_the_hello_of_a_slow_client_are_delivered(streams: Streams) -> None:
    remote, peer = side(streams[0], Wire.V2), Peer(streams[1])
    async with running(remote):
        assert isinstance(await peer.next(), Hello)
        await peer.send(frames(FRAME))
        assert await remote.plug.receive() == [FRAME]
        assert not remote.link.was_up
        await peer.send(hello())
        assert (await remote.up()).wire == 2


async def test_frame_over_the_limit_of_the_peer_is_not_sent(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with running(one):
        await peer.send(hello(frame_limit=100))
        await one.up()
        assert isinstance(await peer.next(), Hello)
        await one.plug.send([bytes(101), bytes(100)])
        assert await peer.next() == bytes(100)


async def test_frame_limit_of_the_peer_below_the_mtu_is_a_warning(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    plug, endpoint = memory_endpoint_pair(mtu=1500)
    link = Link(endpoint, StreamTransport(streams[0], "the other side"))
    one, peer = Side(link, plug), Peer(streams[1])
    async with running(one):
        await peer.send(hello(frame_limit=1000))
        await one.up()
    assert "frames over 1000 bytes are dropped; an MTU of 982 would fit" in caplog.text


# --- no deadlock, and no unbounded queue ----------------------------------------------------------


async def test_two_sides_with_full_pipes_continue_to_read(autojump_clock: MockClock) -> None:
    # Streams that accept a block only when it is read: the smallest possible pipes.
    streams = trio.testing.lockstep_stream_pair()
    one, two = side(streams[0]), side(streams[1])
    async with running(one, two):
        await one.up()
        await two.up()
        for _ in range(20):
            await one.plug.send([bytes(1400)] * 50)
            await two.plug.send([bytes(1400)] * 50)
            got = [0, 0]
            while got != [50, 50]:
                for n, plug in enumerate((one.plug, two.plug)):
                    if got[n] < 50:
                        got[n] += len(await plug.receive())


async def test_flood_of_pings_queues_one_pong() -> None:
    one_way, peer_end = trio.testing.lockstep_stream_pair()
    one = side(one_way)
    async with running(one):
        # Nothing is read here, so the sender is blocked in the write of its HELLO.
        await peer_end.send_all(encode_control(hello()))
        for token in range(1000):
            await peer_end.send_all(encode_control(Ping(token)))
        await trio.testing.wait_all_tasks_blocked()
        peer = Peer(peer_end)
        assert isinstance(await peer.next(), Hello)
        assert await peer.next() == Pong(999)


async def test_frames_that_waited_for_the_first_link_are_dropped(
    streams: Streams, autojump_clock: MockClock
) -> None:
    await trio.sleep(100)
    monitor = Monitor()
    one, peer = (
        side(streams[0], down_since=trio.current_time() - 60, monitor=monitor),
        Peer(streams[1]),
    )
    await one.plug.send([b"old" * 20] * 30)
    async with running(one):
        await peer.send(hello())
        await one.up()
        await one.plug.send([FRAME])
        assert isinstance(await peer.next(), Hello)
        assert await peer.next() == FRAME
        assert monitor.counters.outbound.drops == {"early": 30}


async def test_frame_that_waited_for_a_moment_is_sent(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    await one.plug.send([FRAME])
    async with running(one):
        await trio.sleep(1)
        await peer.send(hello())
        assert isinstance(await peer.next(), Hello)
        assert await peer.next() == FRAME


async def test_frames_before_a_bye_are_delivered(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with ending(one):
        await peer.send(encode_control(hello()) + frames(FRAME) + encode_control(Bye("done")))
    assert one.plug.receive_nowait() == [FRAME]
    assert isinstance(one.outcome, PeerGone)


async def test_frames_before_garbage_are_delivered(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with ending(one):
        await peer.send(encode_control(hello()) + frames(FRAME) + b"garbage!")
    assert one.plug.receive_nowait() == [FRAME]
    assert isinstance(one.outcome, RemoteProtocolError)


async def test_cancelling_at_any_moment_leaves_no_task_and_no_open_stream(
    autojump_clock: MockClock,
) -> None:
    for moment in range(40):
        streams = trio.testing.memory_stream_pair()
        one, two = side(streams[0]), side(streams[1])
        before = trio.lowlevel.current_statistics().tasks_living
        with trio.move_on_after(math.inf) as scope:
            async with ending(one, two):
                await one.plug.send([FRAME] * 10)
                for _ in range(moment):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        assert trio.lowlevel.current_statistics().tasks_living == before
        for stream in streams:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()
