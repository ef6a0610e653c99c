"""The link without ssh: streams and endpoints in memory, time on a virtual clock.

Rules: no real time passes; a test waits for events, or for the virtual clock to jump.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import trio
import trio.testing

from tests.superframes import Super, checksums_hold
from vknet import (
    Carrier,
    EndpointGone,
    Idle,
    Link,
    LinkSettings,
    MemoryEndpoint,
    Monitor,
    PeerGone,
    RemoteProtocolError,
    SetupError,
    StreamCarrier,
    Up,
    VknetError,
    Wire,
    memory_endpoint_pair,
)
from vknet.framing import (
    FRAME_LIMIT_V1,
    FRAME_LIMIT_V2,
    Ack,
    Block,
    Bye,
    Decoder,
    Ping,
    Pong,
    encode_control,
    encode_frames,
)
from vknet.hello import Hello
from vknet.offload import DEFAULT_OFFLOADS, OFFLOADS, Misfit, OffloadFrame, kinds
from vknet.reverse import stamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.abc import Stream
    from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock

    from vknet.carrier import StartSoon

    MemoryStream: TypeAlias = trio.StapledStream[MemorySendStream, MemoryReceiveStream]
    Streams: TypeAlias = tuple[MemoryStream, MemoryStream]

FRAME = bytes(range(60))
SUPER = Super(bytes(4000)).frame()
TIMEOUT = 15.0


def hello(timeout: float = TIMEOUT, frame_limit: int = FRAME_LIMIT_V2) -> Hello:
    return Hello("test", "an endpoint", frame_limit, None, mtu_fixed=False, timeout=timeout)


def frames(*frames: bytes) -> bytes:
    return encode_frames(frames, FRAME_LIMIT_V2).data


@dataclass
class Side:
    """A link under test, what is plugged into its endpoint, and its outcome."""

    link: Link
    plug: MemoryEndpoint
    outcome: BaseException | None = None

    async def run(self) -> None:
        try:
            await self.link.run()
        except VknetError as exc:
            self.outcome = exc

    async def up(self) -> Up:
        return await self.link.monitor.wait_for(Up)


def side(
    carrier: Carrier | Stream,
    wire: Wire = Wire.V2,
    timeout: float = TIMEOUT,
    *,
    adopt_timeout: bool = False,
    down_since: float | None = None,
    monitor: Monitor | None = None,
) -> Side:
    plug, endpoint = memory_endpoint_pair()
    if not isinstance(carrier, Carrier):
        carrier = StreamCarrier(carrier, "the other side")
    settings = LinkSettings(wire, timeout, adopt_timeout)
    link = Link(endpoint, carrier, settings, down_since=down_since, monitor=monitor)
    return Side(link, plug)


class Peer:
    """The other end of a link's stream, played by the test block by block."""

    def __init__(self, stream: trio.StapledStream[Any, Any], wire: Wire = Wire.V2) -> None:
        self.stream = stream
        self._decoder = Decoder(wire, offload=True)
        self._blocks: list[Block] = []

    async def send(self, *what: bytes | Hello | Ack | Ping | Pong | Bye) -> None:
        for one in what:
            await self.stream.send_all(one if isinstance(one, bytes) else encode_control(one))

    async def next(self) -> bytes | Block:
        """The next block; a plain frame as bytes."""
        while not self._blocks:
            data = await self.stream.receive_some()
            if not data:
                self._decoder.end()
                raise EOFError
            self._decoder.feed(bytes(data), self._blocks)
        block = self._blocks.pop(0)
        return bytes(block) if isinstance(block, memoryview) else block


@pytest.fixture
def streams() -> tuple[MemoryStream, MemoryStream]:
    return trio.testing.memory_stream_pair()


async def test_frames_cross_both_ways_and_are_counted(streams: Streams) -> None:
    one, two = side(streams[0]), side(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(two.run)
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
        nursery.cancel_scope.cancel()


async def test_a_client_that_gets_hello_first_speaks_v2(streams: Streams) -> None:
    client, peer = side(streams[0], Wire.AUTO), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await peer.send(hello())
        answer = await peer.next()
        assert isinstance(answer, Hello)
        assert (await client.up()).wire == 2
        nursery.cancel_scope.cancel()


async def test_a_client_that_gets_a_frame_first_speaks_v1_for_good(
    streams: Streams, autojump_clock: MockClock
) -> None:
    client, peer = side(streams[0], Wire.AUTO), Peer(streams[1], Wire.V1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await peer.send(frames(FRAME))
        assert await client.plug.receive() == [FRAME]
        assert (await client.up()).wire == 1
        # Nothing but frames comes to a v1 peer, however long it is quiet, and it is never dead.
        await trio.sleep(10 * TIMEOUT)
        await client.plug.send([bytes(FRAME_LIMIT_V1 + 1), FRAME, bytes(FRAME_LIMIT_V1)])
        assert await peer.next() == FRAME
        assert await peer.next() == bytes(FRAME_LIMIT_V1)
        assert sum(client.link.monitor.counters.outbound.drops.values()) == 1
        assert client.outcome is None
        await peer.send(hello())
    assert isinstance(client.outcome, RemoteProtocolError)


async def test_a_silent_peer_is_sent_to_after_three_seconds_and_is_up_when_heard(
    streams: Streams, autojump_clock: MockClock
) -> None:
    client, peer = side(streams[0], Wire.AUTO), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.plug.send([FRAME])
        assert await peer.next() == FRAME
        assert trio.current_time() == pytest.approx(3.0)
        assert isinstance(client.link.monitor.state, Idle)
        assert not client.link.was_up
        await peer.send(hello())
        assert isinstance(await peer.next(), Hello)
        assert (await client.up()).wire == 2
        nursery.cancel_scope.cancel()


async def test_the_clock_of_a_silent_peer_starts_when_it_is_reached(
    streams: Streams, autojump_clock: MockClock
) -> None:
    class SlowLogin(StreamCarrier):
        async def open(self, start_soon: StartSoon) -> Stream:
            stream = await super().open(start_soon)
            self.reached = trio.Event()
            start_soon(self.log_in)
            return stream

        async def log_in(self) -> None:
            await trio.sleep(60)
            self.reached.set()

    client, peer = side(SlowLogin(streams[0]), Wire.AUTO), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await trio.sleep(62.9)
        await client.plug.send([FRAME])
        await trio.sleep(0.2)
        # What came before was dropped: some of it may have waited for a minute.
        assert client.link.monitor.counters.outbound.drops == {"waited through an outage": 1}
        await client.plug.send([FRAME[::-1]])
        assert await peer.next() == FRAME[::-1]
        nursery.cancel_scope.cancel()


async def test_a_remote_half_without_the_mark_speaks_v1_at_once(streams: Streams) -> None:
    remote, peer = side(streams[0], Wire.V1), Peer(streams[1], Wire.V1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(remote.run)
        await remote.plug.send([FRAME])
        assert await peer.next() == FRAME
        await peer.send(encode_control(Ping(1)))
    assert isinstance(remote.outcome, RemoteProtocolError)


async def test_frames_before_the_hello_of_a_slow_client_are_taken(streams: Streams) -> None:
    remote, peer = side(streams[0], Wire.V2), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(remote.run)
        assert isinstance(await peer.next(), Hello)
        await peer.send(frames(FRAME))
        assert await remote.plug.receive() == [FRAME]
        assert not remote.link.was_up
        await peer.send(hello())
        assert (await remote.up()).wire == 2
        nursery.cancel_scope.cancel()


async def test_the_peers_frame_limit_is_kept(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(hello(frame_limit=100))
        await one.up()
        assert isinstance(await peer.next(), Hello)
        await one.plug.send([bytes(101), bytes(100)])
        assert await peer.next() == bytes(100)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_takes_next_to_nothing_is_warned_of(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    plug, endpoint = memory_endpoint_pair(mtu=1500)
    link = Link(endpoint, StreamCarrier(streams[0], "the other side"))
    one, peer = Side(link, plug), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(hello(frame_limit=1000))
        await one.up()
        nursery.cancel_scope.cancel()
    assert "frames over 1000 bytes are dropped; an MTU of 982 would fit" in caplog.text


# --- offload --------------------------------------------------------------------------------------


def offload_side(
    stream: Stream, wire: Wire = Wire.V2, offloads: frozenset[str] = DEFAULT_OFFLOADS
) -> Side:
    """A link on an endpoint that can do everything, as a TAP can."""
    plug, endpoint = memory_endpoint_pair(accepts=OFFLOADS)
    settings = LinkSettings(wire, TIMEOUT, offloads=offloads)
    return Side(Link(endpoint, StreamCarrier(stream, "the other side"), settings), plug)


async def test_super_frames_cross_whole_between_two_that_can(streams: Streams) -> None:
    one, two = offload_side(streams[0]), offload_side(streams[1])
    await two.plug.set_offload(OFFLOADS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(two.run)
        await one.up()
        await trio.testing.wait_all_tasks_blocked()
        await one.plug.send_offload([SUPER, FRAME])
        await two.plug.wait_receivable()
        assert two.plug.receive_offload_nowait() == [SUPER, FRAME]
        counters = one.link.monitor.counters
        assert (counters.outbound.frames, counters.outbound.bytes) == (2, len(SUPER) + 60)
        assert two.link.monitor.counters.inbound == counters.outbound
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("off", ["here", "there"])
async def test_off_on_one_side_is_off_both_ways(streams: Streams, off: str) -> None:
    nothing: frozenset[str] = frozenset()
    one = offload_side(streams[0], offloads=nothing if off == "here" else DEFAULT_OFFLOADS)
    two = offload_side(streams[1], offloads=nothing if off == "there" else DEFAULT_OFFLOADS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(two.run)
        for sender, receiver in ((one, two), (two, one)):
            await sender.up()
            await receiver.plug.set_offload(OFFLOADS)
            await trio.testing.wait_all_tasks_blocked()
            await sender.plug.send_offload([SUPER])
            await receiver.plug.wait_receivable()
            got = receiver.plug.receive_offload_nowait()
            assert len(got) == 3
            assert not any(isinstance(frame, OffloadFrame) for frame in got)
        nursery.cancel_scope.cancel()


async def test_hello_names_what_the_endpoint_can_and_the_settings_allow(streams: Streams) -> None:
    one, peer = offload_side(streams[0]), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        greeting = await peer.next()
        assert isinstance(greeting, Hello)
        assert greeting.offloads == DEFAULT_OFFLOADS
        nursery.cancel_scope.cancel()


async def test_an_endpoint_that_can_nothing_is_sent_nothing_else(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        greeting = await peer.next()
        assert isinstance(greeting, Hello)
        assert greeting.offloads == frozenset()
        await peer.send(hello(), encode_frames([SUPER], FRAME_LIMIT_V2, kinds(OFFLOADS)).data)
    assert isinstance(one.outcome, RemoteProtocolError)
    assert "which this side does not take" in str(one.outcome)


async def test_a_peer_of_2008_gets_segments_of_what_was_queued_for_another(
    streams: Streams,
) -> None:
    one, peer = offload_side(streams[0], Wire.AUTO), Peer(streams[1], Wire.V1)
    await one.link._endpoint.set_offload(OFFLOADS)
    await one.plug.send_offload([SUPER])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(frames(FRAME))
        cut = [await peer.next() for _ in range(3)]
        assert all(isinstance(frame, bytes) and checksums_hold(frame) for frame in cut)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_takes_less_gets_segments_of_what_was_queued_for_another(
    streams: Streams,
) -> None:
    one, peer = offload_side(streams[0]), Peer(streams[1])
    await one.link._endpoint.set_offload(OFFLOADS)
    six = Super(bytes(4000), version=6).frame()
    await one.plug.send_offload([SUPER, six])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(replace(hello(), offloads=frozenset(("csum", "tso6"))))
        assert isinstance(await peer.next(), Hello)
        cut = [await peer.next() for _ in range(3)]
        assert all(isinstance(frame, bytes) and checksums_hold(frame) for frame in cut)
        assert await peer.next() == six
        nursery.cancel_scope.cancel()


async def test_nothing_is_left_undone_any_more_when_the_link_has_ended(streams: Streams) -> None:
    one, peer = offload_side(streams[0]), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        greeting = replace(hello(), offloads=frozenset(OFFLOADS))
        await peer.send(greeting)
        await one.up()
        await trio.testing.wait_all_tasks_blocked()
        await one.plug.send_offload([SUPER])
        assert isinstance(await peer.next(), Hello)
        assert isinstance(await peer.next(), OffloadFrame)
        await peer.send(Bye("done"))
    await one.plug.send_offload([SUPER])
    assert len(one.link._endpoint.receive_offload_nowait()) == 3


async def test_a_strangers_header_is_dropped_counted_and_the_link_lives(streams: Streams) -> None:
    one, peer = offload_side(streams[0]), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        bad = [Super().but(gso_type=9).frame(), Super().but(csum_start=0).frame()]
        data = b"".join(b"\2VK2" + len(f.data).to_bytes(4, "little") + bytes(f.data) for f in bad)
        await peer.send(hello(), data, frames(FRAME))
        assert await one.plug.receive() == [FRAME]
        assert one.link.monitor.counters.inbound.drops == {Misfit.UNKNOWN: 1, Misfit.HEADER: 1}
        nursery.cancel_scope.cancel()


# --- one fails, all end ---------------------------------------------------------------------------


class FailingCarrier(StreamCarrier):
    """A carrier with a task of its own, as ssh has, that fails when told."""

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


async def _fail_carrier(one: Side, carrier: FailingCarrier, peer: Peer) -> None:
    carrier.fail.set()


async def _fail_pump_out(one: Side, carrier: FailingCarrier, peer: Peer) -> None:
    await one.plug.aclose()


async def _fail_pump_in(one: Side, carrier: FailingCarrier, peer: Peer) -> None:
    await peer.send(b"garbage!garbage!")


async def _end_of_stream(one: Side, carrier: FailingCarrier, peer: Peer) -> None:
    await peer.stream.send_eof()


async def _end_inside_a_block(one: Side, carrier: FailingCarrier, peer: Peer) -> None:
    await peer.send(frames(FRAME)[:-1])
    await peer.stream.send_eof()


async def _silence(one: Side, carrier: FailingCarrier, peer: Peer) -> None:
    await trio.sleep(TIMEOUT)


async def _bye(one: Side, carrier: FailingCarrier, peer: Peer) -> None:
    await peer.send(Bye("gone\x1b[31m fishing"))


@pytest.mark.parametrize(
    ("fail", "kind", "message", "farewell"),
    [
        (_fail_carrier, PeerGone, "the subprocess died", None),
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
        (_silence, PeerGone, "nothing heard for 15.0 s", None),
        (_bye, PeerGone, r"ended the link: gone\x1b[31m fishing", None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_when_one_task_fails_the_whole_link_ends_with_its_cause(
    streams: Streams,
    autojump_clock: MockClock,
    fail: Callable[[Side, FailingCarrier, Peer], Awaitable[None]],
    kind: type[VknetError],
    message: str,
    farewell: str | None,
) -> None:
    carrier = FailingCarrier(streams[0])
    one, peer = side(carrier), Peer(streams[1])
    before = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(hello())
        await one.up()
        assert trio.lowlevel.current_statistics().tasks_living == before + 5, "and its run()"
        await fail(one, carrier, peer)
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


async def test_a_stream_that_cannot_be_opened_is_the_cause() -> None:
    class NoStream(Carrier):
        async def open(self, start_soon: StartSoon) -> Stream:
            raise SetupError("no ssh")

    one = side(NoStream("nowhere"))
    await one.run()
    assert isinstance(one.outcome, SetupError)


async def test_a_bug_in_a_task_is_not_taken_for_a_loss(streams: Streams) -> None:
    class Buggy(StreamCarrier):
        async def open(self, start_soon: StartSoon) -> Stream:
            start_soon(self._bug)
            return await super().open(start_soon)

        async def _bug(self) -> None:
            raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError):
        await side(Buggy(streams[0])).run()


async def test_a_bug_that_shows_when_the_link_is_cancelled_is_not_swallowed(
    streams: Streams,
) -> None:
    class Buggy(StreamCarrier):
        async def open(self, start_soon: StartSoon) -> Stream:
            start_soon(self._bug)
            return await super().open(start_soon)

        async def _bug(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(side(Buggy(streams[0])).run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


async def test_a_link_that_is_cancelled_says_bye_and_closes_the_stream(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(hello())
        await one.up()
        nursery.cancel_scope.cancel()
    assert one.outcome is None
    assert isinstance(await peer.next(), Hello)
    assert await peer.next() == Bye("it was stopped")
    with pytest.raises(EOFError):
        await peer.next()
    with pytest.raises(trio.ClosedResourceError):
        await streams[0].send_all(b"x")


async def test_nothing_follows_a_block_that_was_cut_off(autojump_clock: MockClock) -> None:
    # A stream that takes a few bytes and then no more, like a full pipe.
    one_way, taken = trio.testing.lockstep_stream_pair()
    one = side(one_way, Wire.V1)
    got = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await one.plug.send([bytes(1000)])
        got += await taken.receive_some(500)
        nursery.cancel_scope.cancel()
    with trio.move_on_after(1):
        while data := await taken.receive_some():
            got += data
    assert got == frames(bytes(1000))[: len(got)], "no BYE in the middle of a frame"


# --- health ---------------------------------------------------------------------------------------


async def test_two_quiet_sides_keep_each_other_alive(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, two = side(streams[0]), side(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(two.run)
        await trio.sleep(100 * TIMEOUT)
        assert one.outcome is None
        assert two.outcome is None
        assert one.link.monitor.round_trip is not None
        assert one.link.monitor.round_trip < 1
        nursery.cancel_scope.cancel()


async def test_a_ping_is_answered_with_its_token(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(hello(), Ping(2**64 - 1))
        assert isinstance(await peer.next(), Hello)
        assert await peer.next() == Pong(2**64 - 1)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_never_says_hello_is_dead_after_the_timeout(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one = side(streams[0])
    await one.run()
    assert isinstance(one.outcome, PeerGone)
    assert trio.current_time() == pytest.approx(TIMEOUT, abs=0.5)


async def test_the_silence_of_a_peer_counts_from_when_it_was_reached(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one = side(streams[0])
    await trio.sleep(10 * TIMEOUT)
    before = trio.current_time()
    await one.run()
    assert trio.current_time() - before == pytest.approx(TIMEOUT, abs=0.5)


async def test_a_peer_busy_sending_is_alive_without_a_pong(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(hello())
        for _ in range(40):
            await trio.sleep(TIMEOUT - 1)
            await peer.send(frames(FRAME))
        assert one.outcome is None
        nursery.cancel_scope.cancel()


async def test_a_remote_half_takes_over_the_timeout_of_its_client(
    streams: Streams, autojump_clock: MockClock
) -> None:
    remote, peer = side(streams[0], adopt_timeout=True), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(remote.run)
        await peer.send(hello(timeout=3))
    assert isinstance(remote.outcome, PeerGone)
    assert trio.current_time() == pytest.approx(3, abs=0.5)


# --- it may not stall, and it may not pile up -----------------------------------------------------


async def test_two_sides_with_full_pipes_both_go_on_reading(autojump_clock: MockClock) -> None:
    # Streams that take a block only when it is read: the smallest pipes there are.
    streams = trio.testing.lockstep_stream_pair()
    one, two = side(streams[0]), side(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(two.run)
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
        nursery.cancel_scope.cancel()


async def test_a_flood_of_pings_makes_one_pong_wait_and_no_more() -> None:
    one_way, peer_end = trio.testing.lockstep_stream_pair()
    one = side(one_way)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        # Nothing is read here, so the writer is stuck with its HELLO from the first moment on.
        await peer_end.send_all(encode_control(hello()))
        for token in range(1000):
            await peer_end.send_all(encode_control(Ping(token)))
        await trio.testing.wait_all_tasks_blocked()
        peer = Peer(peer_end)
        assert isinstance(await peer.next(), Hello)
        assert await peer.next() == Pong(999)
        nursery.cancel_scope.cancel()


async def test_what_waited_through_an_outage_is_dropped(
    streams: Streams, autojump_clock: MockClock
) -> None:
    await trio.sleep(100)
    monitor = Monitor()
    one, peer = (
        side(streams[0], down_since=trio.current_time() - 60, monitor=monitor),
        Peer(streams[1]),
    )
    await one.plug.send([b"old" * 20] * 30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(hello())
        await one.up()
        await one.plug.send([FRAME])
        assert isinstance(await peer.next(), Hello)
        assert await peer.next() == FRAME
        assert monitor.counters.outbound.drops == {"waited through an outage": 30}
        nursery.cancel_scope.cancel()


async def test_what_waited_for_a_moment_is_sent(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    await one.plug.send([FRAME])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await trio.sleep(1)
        await peer.send(hello())
        assert isinstance(await peer.next(), Hello)
        assert await peer.next() == FRAME
        nursery.cancel_scope.cancel()


async def test_frames_before_a_bye_are_delivered(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(encode_control(hello()) + frames(FRAME) + encode_control(Bye("done")))
    assert one.plug.receive_nowait() == [FRAME]
    assert isinstance(one.outcome, PeerGone)


async def test_frames_before_garbage_are_delivered(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
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
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.run)
                nursery.start_soon(two.run)
                await one.plug.send([FRAME] * 10)
                for _ in range(moment):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        assert trio.lowlevel.current_statistics().tasks_living == before
        for stream in streams:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()


# --- the window -----------------------------------------------------------------------------------


def windowed(stream: Stream, window: int | None) -> Side:
    plug, endpoint = memory_endpoint_pair()
    settings = LinkSettings(Wire.V2, TIMEOUT, window=window)
    return Side(Link(endpoint, StreamCarrier(stream, "the other side"), settings), plug)


def with_window(window: int | None) -> Hello:
    return replace(hello(), window=window)


async def test_more_than_the_windows_go_both_ways(streams: Streams) -> None:
    one, two = windowed(streams[0], None), windowed(streams[1], 5000)
    many = [bytes([n % 256]) * 1000 for n in range(500)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(two.run)
        for source, sink in ((one, two), (two, one)):
            await source.plug.send(many)
            got: list[Any] = []
            while len(got) < len(many):
                got += await sink.plug.receive()
            # Every frame is a flow of its own.
            assert sorted(got) == sorted(many)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_does_not_acknowledge_gets_a_windows_worth(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = windowed(streams[0], 3000), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(with_window(None))
        assert isinstance(await peer.next(), Hello)
        await one.plug.send([bytes([n]) * 1000 for n in range(5)])
        assert [await peer.next() for _ in range(3)] == [bytes([n]) * 1000 for n in range(3)]
        # A PING is not held back by what waits, and nothing but PINGs comes.
        assert isinstance(await peer.next(), Ping)
        assert trio.current_time() == pytest.approx(TIMEOUT / 3)
        await peer.send(Ack(1000))
        assert await peer.next() == bytes([3]) * 1000
        await peer.send(Ping(7))
        assert await peer.next() == Pong(7)
        await peer.send(Ack(4000))
        assert await peer.next() == bytes([4]) * 1000
        nursery.cancel_scope.cancel()


async def test_acks_come_soon_for_much_and_at_leisure_for_little(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = windowed(streams[0], None), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(with_window(None))
        assert isinstance(await peer.next(), Hello)
        await peer.send(frames(bytes(2000)))
        assert await peer.next() == Ack(2000)
        assert trio.current_time() == pytest.approx(0.002)
        await peer.send(frames(bytes(60)))
        await peer.send(frames(bytes(60)))
        assert await peer.next() == Ack(2120)
        assert trio.current_time() == pytest.approx(0.022)
        # After a while without one it waits only for company.
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
        nursery.cancel_scope.cancel()


async def test_an_ack_says_when_it_was_written_to_whom_that_means_something(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = windowed(streams[0], None), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(replace(with_window(None), ack_time=True))
        hello = await peer.next()
        assert isinstance(hello, Hello)
        assert hello.ack_time
        await trio.sleep(1)
        await peer.send(frames(bytes(2000)))
        assert await peer.next() == Ack(2000, stamp(trio.current_time()))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("ours", "theirs"), [(0, None), (None, 0), (5000, 0)])
async def test_without_a_window_there_are_no_acks_and_nothing_waits(
    streams: Streams, autojump_clock: MockClock, ours: int | None, theirs: int | None
) -> None:
    one, peer = windowed(streams[0], ours), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(with_window(theirs))
        assert isinstance(await peer.next(), Hello)
        await peer.send(frames(bytes(2000)), Ack(12345))
        many = [bytes(1000)] * 50
        await one.plug.send(many)
        assert [await peer.next() for _ in many] == many
        assert isinstance(await peer.next(), Ping)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_acknowledges_too_much_is_left(streams: Streams) -> None:
    one, peer = windowed(streams[0], None), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(with_window(None), Ack(1))
    assert isinstance(one.outcome, RemoteProtocolError)
    assert "acknowledged 1 bytes, where 0 were sent" in str(one.outcome)


async def test_what_waits_for_the_window_does_not_stop_the_taking_in(
    streams: Streams, autojump_clock: MockClock
) -> None:
    one, peer = windowed(streams[0], 2000), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(with_window(None))
        for n in range(200):
            await one.plug.send([bytes([n]) * 1000] * 100)
            await peer.send(frames(bytes([n]) * 100))
            assert await one.plug.receive() == [bytes([n]) * 100]
        # The endpoint is empty: what there is too much of was dropped from the queue.
        assert one.link.monitor.counters.outbound.drops["queue full"] > 10_000
        nursery.cancel_scope.cancel()


async def test_what_waits_when_the_link_is_cancelled_is_counted(streams: Streams) -> None:
    one, peer = windowed(streams[0], 1000), Peer(streams[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await peer.send(with_window(None))
        assert isinstance(await peer.next(), Hello)
        await one.plug.send([bytes(1000)] * 5)
        assert await peer.next() == bytes(1000)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert one.link.monitor.counters.outbound.drops == {"still queued when the link ended": 4}
