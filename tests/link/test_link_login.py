"""The link of a transport that cannot see the login, and the frames that waited for a link."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.links import FRAME, Peer, ending, frames, hello, running, side
from vknet import Monitor, PeerGone, RetryPolicy, StreamTransport, Up, Wire, keep_linked
from vknet.endpoints.memory import memory_endpoint_pair

if TYPE_CHECKING:
    from trio.abc import Stream
    from trio.testing import MockClock

    from tests.support.links import Streams
    from vknet.endpoints.base import Endpoint
    from vknet.transport.base import StartSoon


class InvisibleLogin(StreamTransport):
    """A transport like another program in place of ssh."""

    async def open(self, start_soon: StartSoon) -> Stream:
        self.sees_login = False
        return await super().open(start_soon)


@pytest.mark.parametrize("wire", [Wire.AUTO, Wire.V1])
async def test_silent_peer_gets_no_byte_while_a_person_may_log_in(
    streams: Streams, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, wire: Wire
) -> None:
    client = side(InvisibleLogin(streams[0]), wire)
    sent = bytearray()
    with caplog.at_level(logging.INFO, "vknet"):
        async with ending(client):
            await client.plug.send([FRAME])
            while data := await streams[1].receive_some():
                sent += data
    # The login and the start of vknet have 120 s each.
    assert trio.current_time() == pytest.approx(240, abs=1)
    assert not sent
    assert isinstance(client.outcome, PeerGone)
    assert "not answered as vknet within 240 s; possible causes: a login that did not succeed" in (
        str(client.outcome)
    )
    assert caplog.text.count("waiting for the login to the peer, or for vknet") == 1


async def test_client_with_wire_1_sends_after_the_first_frame_if_the_login_is_invisible(
    streams: Streams, autojump_clock: MockClock
) -> None:
    client, peer = side(InvisibleLogin(streams[0]), Wire.V1), Peer(streams[1], Wire.V1)
    async with running(client):
        await trio.sleep(200)
        await peer.send(frames(FRAME))
        assert (await client.up()).wire == 1
        await client.plug.send([FRAME[::-1]])
        assert await peer.next() == FRAME[::-1]
        await trio.sleep(1000)
        assert client.outcome is None


async def test_late_answer_after_an_invisible_login_brings_the_link_up(
    streams: Streams, autojump_clock: MockClock
) -> None:
    transport = InvisibleLogin(streams[0])
    client, peer = side(transport, Wire.AUTO), Peer(streams[1])
    async with running(client):
        await trio.sleep(200)
        assert not transport.answered
        await peer.send(hello())
        assert (await client.up()).wire == 2
        assert transport.answered


async def test_noise_is_no_answer(streams: Streams) -> None:
    transport = StreamTransport(streams[0])
    client = side(transport, Wire.AUTO)
    async with ending(client):
        await streams[1].send_all(b"Welcome home\n")
    assert not transport.answered


async def test_v1_from_a_peer_that_should_speak_v2_is_explained(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    client, peer = side(streams[0], Wire.AUTO), Peer(streams[1], Wire.V1)
    with caplog.at_level(logging.INFO, "vknet"):
        async with running(client):
            await peer.send(frames(FRAME))
            await client.up()
    assert 'sudo or a script has hidden the client\'s "-B wire=2" from it' in caplog.text


async def test_frames_are_early_before_the_first_link_and_stale_after_it(
    autojump_clock: MockClock,
) -> None:
    plug, endpoint = memory_endpoint_pair()
    monitor = Monitor()
    send, receive = trio.open_memory_channel[Peer](2)

    async def open_endpoint() -> Endpoint:
        return endpoint

    def new_transport() -> StreamTransport:
        ours, theirs = trio.testing.memory_stream_pair()
        send.send_nowait(Peer(theirs))
        return StreamTransport(ours)

    async with running() as nursery:
        nursery.start_soon(
            lambda: keep_linked(open_endpoint, new_transport, RetryPolicy(10), monitor=monitor)
        )
        for number in (3, 5):
            peer = await receive.receive()
            await plug.send([FRAME] * number)
            await trio.sleep(10)
            await peer.send(hello())
            await monitor.wait_for(Up)
            assert monitor.counters.outbound.frames == 0
            await peer.stream.aclose()
    assert monitor.counters.outbound.drops == {"early": 3, "stale": 5}
