"""How a link ends: one failed task ends all, and a silent peer is noticed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.support.links import FRAME, TIMEOUT, Peer, Side, ending, frames, hello, running, side
from vknet import (
    EndpointGone,
    PeerGone,
    RemoteProtocolError,
    SetupError,
    StreamTransport,
    Transport,
    VknetError,
    Wire,
)
from vknet.framing import (
    Bye,
    Ping,
    Pong,
)
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.abc import Stream
    from trio.testing import MockClock

    from tests.support.links import Streams
    from vknet.transport.base import StartSoon

# --- one failed task ends the link ----------------------------------------------------------------


class FailingTransport(StreamTransport):
    """A transport with a task of its own, as that of ssh, that fails on request."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream, "the other side")
        self.fail = trio.Event()

    async def open(self, start_soon: StartSoon) -> Stream:
        stream = await super().open(start_soon)
        start_soon(self._task)
        return stream

    async def _task(self) -> None:
        await self.fail.wait()
        raise PeerGone("the subprocess died")


async def _fail_transport(one: Side, transport: FailingTransport, peer: Peer) -> None:
    transport.fail.set()


async def _fail_pump_out(one: Side, transport: FailingTransport, peer: Peer) -> None:
    await one.plug.aclose()


async def _fail_pump_in(one: Side, transport: FailingTransport, peer: Peer) -> None:
    await peer.send(b"garbage!garbage!")


async def _end_of_stream(one: Side, transport: FailingTransport, peer: Peer) -> None:
    await peer.stream.send_eof()


async def _end_inside_a_block(one: Side, transport: FailingTransport, peer: Peer) -> None:
    await peer.send(frames(FRAME)[:-1])
    await peer.stream.send_eof()


async def _silence(one: Side, transport: FailingTransport, peer: Peer) -> None:
    await trio.sleep(TIMEOUT)


async def _bye(one: Side, transport: FailingTransport, peer: Peer) -> None:
    await peer.send(Bye("gone\x1b[31m fishing"))


@pytest.mark.parametrize(
    ("fail", "kind", "message", "farewell"),
    [
        (_fail_transport, PeerGone, "the subprocess died", None),
        (
            _fail_pump_out,
            EndpointGone,
            "the other end of memory-b was closed",
            "memory-b was closed",
        ),
        (_fail_pump_in, RemoteProtocolError, '"garbage!garbage!"', "is not a block"),
        (_end_of_stream, PeerGone, "the other side closed the stream", None),
        (
            _end_inside_a_block,
            RemoteProtocolError,
            "ended inside a block, 67 bytes",
            "inside a block",
        ),
        (_silence, PeerGone, "nothing received for 15.0 s", None),
        (_bye, PeerGone, r"ended the link: gone\x1b[31m fishing", None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_failed_task_ends_the_whole_link_with_its_cause(
    streams: Streams,
    autojump_clock: MockClock,
    fail: Callable[[Side, FailingTransport, Peer], Awaitable[None]],
    kind: type[VknetError],
    message: str,
    farewell: str | None,
) -> None:
    transport = FailingTransport(streams[0])
    one, peer = side(transport), Peer(streams[1])
    before = trio.lowlevel.current_statistics().tasks_living
    async with ending(one):
        await peer.send(hello())
        await one.up()
        assert trio.lowlevel.current_statistics().tasks_living == before + 6, "and its run()"
        await fail(one, transport, peer)
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert type(one.outcome) is kind
    assert message in str(one.outcome)

    said = []
    with contextlib.suppress(EOFError):
        while True:
            said.append(await peer.next())
    byes = [block.reason for block in said if isinstance(block, Bye)]
    assert len(byes) == (0 if farewell is None else 1)
    assert farewell is None or farewell in byes[0]


async def test_link_whose_stream_cannot_be_opened_ends_with_that_error() -> None:
    class NoStream(Transport):
        async def open(self, start_soon: StartSoon) -> Stream:
            raise SetupError("no ssh")

    one = side(NoStream("nowhere"))
    await one.run()
    assert isinstance(one.outcome, SetupError)


async def test_bug_in_a_task_is_not_reported_as_a_lost_link(streams: Streams) -> None:
    class Buggy(StreamTransport):
        async def open(self, start_soon: StartSoon) -> Stream:
            start_soon(self._bug)
            return await super().open(start_soon)

        async def _bug(self) -> None:
            raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError):
        await side(Buggy(streams[0])).run()


async def test_bug_that_appears_on_cancellation_is_raised(
    streams: Streams,
) -> None:
    class Buggy(StreamTransport):
        async def open(self, start_soon: StartSoon) -> Stream:
            start_soon(self._bug)
            return await super().open(start_soon)

        async def _bug(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with running(side(Buggy(streams[0]))):
            await trio.testing.wait_all_tasks_blocked()


async def test_cancelled_link_sends_a_bye_and_closes_the_stream(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with running(one):
        await peer.send(hello())
        await one.up()
    assert one.outcome is None
    assert isinstance(await peer.next(), Hello)
    assert await peer.next() == Bye("it was stopped")
    with pytest.raises(EOFError):
        await peer.next()
    with pytest.raises(trio.ClosedResourceError):
        await streams[0].send_all(b"x")


async def test_nothing_is_sent_after_a_truncated_block(autojump_clock: MockClock) -> None:
    # A stream that accepts a few bytes and then no more, like a full pipe.
    one_way, taken = trio.testing.lockstep_stream_pair()
    one = side(one_way, Wire.V1)
    got = bytearray()
    async with running(one):
        await one.plug.send([bytes(1000)])
        got += await taken.receive_some(500)
    with trio.move_on_after(1):
        while data := await taken.receive_some():
            got += data
    assert got == frames(bytes(1000))[: len(got)], "no BYE in the middle of a frame"


# --- keepalive ------------------------------------------------------------------------------------


async def test_two_quiet_sides_keep_each_other_alive(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, two = side(streams[0]), side(streams[1])
    async with running(one, two):
        await trio.sleep(100 * TIMEOUT)
        assert one.outcome is None
        assert two.outcome is None
        assert one.link.monitor.round_trip is not None
        assert one.link.monitor.round_trip < 1


async def test_ping_is_answered_with_its_token(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with running(one):
        await peer.send(hello(), Ping(2**64 - 1))
        assert isinstance(await peer.next(), Hello)
        assert await peer.next() == Pong(2**64 - 1)


async def test_peer_without_a_hello_is_dead_after_the_timeout(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one = side(streams[0])
    with trio.fail_after(10 * TIMEOUT):
        await one.run()
    assert isinstance(one.outcome, PeerGone)
    assert trio.current_time() == pytest.approx(TIMEOUT, abs=0.5)


async def test_silence_of_a_peer_counts_from_when_it_was_reached(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one = side(streams[0])
    await trio.sleep(10 * TIMEOUT)
    before = trio.current_time()
    with trio.fail_after(10 * TIMEOUT):
        await one.run()
    assert trio.current_time() - before == pytest.approx(TIMEOUT, abs=0.5)


async def test_peer_that_sends_frames_is_alive_without_a_pong(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with running(one):
        await peer.send(hello())
        for _ in range(40):
            await trio.sleep(TIMEOUT - 1)
            await peer.send(frames(FRAME))
        assert one.outcome is None


async def test_remote_half_adopts_the_timeout_of_its_client(
    streams: Streams, autojump_clock: MockClock
) -> None:
    remote, peer = side(streams[0], adopt_timeout=True), Peer(streams[1])
    async with ending(remote):
        await peer.send(hello(timeout=3))
    assert isinstance(remote.outcome, PeerGone)
    assert trio.current_time() == pytest.approx(3, abs=0.5)


async def test_silent_peer_is_noticed_while_the_endpoint_is_maintained(
    streams: Streams, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    # The helper process for interfaces hangs.
    monkeypatch.setattr(one.link._endpoint, "maintain", trio.sleep_forever)
    async with ending(one):
        await peer.send(hello())
    assert isinstance(one.outcome, PeerGone)
    assert trio.current_time() == pytest.approx(TIMEOUT, abs=0.5)
