"""The window of a link, and the ACKs that open it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.support.links import FRAME, TIMEOUT, Peer, Side, ending, frames, hello, running
from vknet import (
    Link,
    LinkSettings,
    RemoteProtocolError,
    StreamTransport,
    Wire,
    memory_endpoint_pair,
)
from vknet.congestion.reverse_delay import stamp
from vknet.counters import DropReason
from vknet.framing import (
    Ack,
    Ping,
    Pong,
)
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from trio.abc import Stream
    from trio.testing import MockClock

    from tests.support.links import Streams


def windowed(stream: Stream, window: int | None) -> Side:
    plug, endpoint = memory_endpoint_pair()
    settings = LinkSettings(Wire.V2, TIMEOUT, window=window)
    return Side(Link(endpoint, StreamTransport(stream, "the other side"), settings), plug)


def with_window(window: int | None) -> Hello:
    return replace(hello(), window=window)


async def test_more_than_a_window_crosses_in_both_directions(streams: Streams) -> None:
    one, two = windowed(streams[0], None), windowed(streams[1], 5000)
    many = [bytes([n % 256]) * 1000 for n in range(500)]
    async with running(one, two):
        for source, sink in ((one, two), (two, one)):
            await source.plug.send(many)
            got: list[Any] = []
            while len(got) < len(many):
                got += await sink.plug.receive()
            # Every frame is a flow of its own.
            assert sorted(got) == sorted(many)


async def test_peer_that_sends_no_ack_gets_one_window(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = windowed(streams[0], 3000), Peer(streams[1])
    async with running(one):
        await peer.send(with_window(None))
        assert isinstance(await peer.next(), Hello)
        await one.plug.send([bytes([n]) * 1000 for n in range(5)])
        assert [await peer.next() for _ in range(3)] == [bytes([n]) * 1000 for n in range(3)]
        # A PING passes the queued frames, and only PINGs come.
        assert isinstance(await peer.next(), Ping)
        assert trio.current_time() == pytest.approx(TIMEOUT / 3)
        await peer.send(Ack(1000))
        assert await peer.next() == bytes([3]) * 1000
        await peer.send(Ping(7))
        assert await peer.next() == Pong(7)
        await peer.send(Ack(4000))
        assert await peer.next() == bytes([4]) * 1000


async def test_acks_are_sent_soon_for_much_data_and_late_for_little(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = windowed(streams[0], None), Peer(streams[1])
    async with running(one):
        await peer.send(with_window(None))
        assert isinstance(await peer.next(), Hello)
        await peer.send(frames(bytes(2000)))
        assert await peer.next() == Ack(2000)
        assert trio.current_time() == pytest.approx(0.002)
        await peer.send(frames(bytes(60)))
        await peer.send(frames(bytes(60)))
        assert await peer.next() == Ack(2120)
        assert trio.current_time() == pytest.approx(0.022)
        # After a time without an ACK it waits only for a frame to go with.
        await trio.sleep(1)
        await peer.send(frames(bytes(60)))
        await trio.testing.wait_all_tasks_blocked()
        await one.plug.send([FRAME])
        assert [await peer.next(), await peer.next()] == [Ack(2180), FRAME]
        assert trio.current_time() == pytest.approx(1.022)
        await trio.sleep(1)
        await peer.send(frames(bytes(60)))
        assert await peer.next() == Ack(2240)
        assert trio.current_time() == pytest.approx(2.024)


async def test_ack_has_a_timestamp_if_the_peer_accepts_it(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = windowed(streams[0], None), Peer(streams[1])
    async with running(one):
        await peer.send(replace(with_window(None), ack_time=True))
        hello = await peer.next()
        assert isinstance(hello, Hello)
        assert hello.ack_time
        await trio.sleep(1)
        await peer.send(frames(bytes(2000)))
        assert await peer.next() == Ack(2000, stamp(trio.current_time()))


@pytest.mark.parametrize(("ours", "theirs"), [(0, None), (None, 0), (5000, 0)])
async def test_link_without_a_window_has_no_acks_and_queues_nothing(
    streams: Streams, autojump_clock: MockClock, ours: int | None, theirs: int | None
) -> None:
    one, peer = windowed(streams[0], ours), Peer(streams[1])
    async with running(one):
        await peer.send(with_window(theirs))
        assert isinstance(await peer.next(), Hello)
        await peer.send(frames(bytes(2000)), Ack(12345))
        many = [bytes(1000)] * 50
        await one.plug.send(many)
        assert [await peer.next() for _ in many] == many
        assert isinstance(await peer.next(), Ping)


async def test_ack_of_more_than_was_sent_ends_the_link(streams: Streams) -> None:
    one, peer = windowed(streams[0], None), Peer(streams[1])
    async with ending(one):
        await peer.send(with_window(None), Ack(1))
    assert isinstance(one.outcome, RemoteProtocolError)
    assert "the peer acknowledged 1 bytes, where 0 were sent" in str(one.outcome)


async def test_frames_that_wait_for_the_window_do_not_block_the_endpoint(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = windowed(streams[0], 2000), Peer(streams[1])
    async with running(one):
        await peer.send(with_window(None))
        for n in range(200):
            await one.plug.send([bytes([n]) * 1000] * 100)
            await peer.send(frames(bytes([n]) * 100))
            assert await one.plug.receive() == [bytes([n]) * 100]
        # The endpoint is empty: the excess was dropped from the queue.
        assert one.link.monitor.counters.outbound.drops[DropReason.QUEUE_FULL] > 10_000


async def test_frames_queued_when_the_link_is_cancelled_are_counted(streams: Streams) -> None:
    one, peer = windowed(streams[0], 1000), Peer(streams[1])
    async with running(one):
        await peer.send(with_window(None))
        assert isinstance(await peer.next(), Hello)
        await one.plug.send([bytes(1000)] * 5)
        assert await peer.next() == bytes(1000)
        await trio.testing.wait_all_tasks_blocked()
    assert one.link.monitor.counters.outbound.drops == {"link-ended": 4}
