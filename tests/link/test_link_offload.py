"""Offloads of a link: which frames cross whole, and which as segments."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.support.links import (
    FRAME,
    SUPER,
    TIMEOUT,
    Peer,
    Side,
    ending,
    frames,
    hello,
    running,
    side,
)
from tests.support.superframes import Super, checksums_hold
from vknet import (
    Link,
    LinkSettings,
    RemoteProtocolError,
    StreamTransport,
    Wire,
    memory_endpoint_pair,
)
from vknet.counters import DropReason
from vknet.framing import (
    FRAME_LIMIT_V2,
    Bye,
    encode_frames,
)
from vknet.packet.virtio import (
    ALL_OFFLOADS,
    DEFAULT_OFFLOADS,
    NO_OFFLOADS,
    Offload,
    OffloadFrame,
    header_kinds,
)
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from trio.abc import Stream

    from tests.support.links import Streams
    from vknet.endpoints.memory import MemoryEndpoint
    from vknet.packet.virtio import AnyFrame


def offload_side(
    stream: Stream, wire: Wire = Wire.V2, offloads: Offload = DEFAULT_OFFLOADS
) -> Side:
    """Return a link on an endpoint with all offloads, as a TAP has."""
    plug, endpoint = memory_endpoint_pair(accepts=ALL_OFFLOADS)
    settings = LinkSettings(wire, TIMEOUT, offloads=offloads)
    return Side(Link(endpoint, StreamTransport(stream, "the other side"), settings), plug)


async def taken(plug: MemoryEndpoint, count: int) -> list[AnyFrame]:
    """Wait for this number of frames, in any number of batches."""
    got: list[AnyFrame] = []
    with trio.fail_after(10):
        while len(got) < count:
            await plug.wait_receivable()
            got += plug.receive_offload_nowait()
    return got


async def test_super_frames_cross_whole_between_two_capable_sides(streams: Streams) -> None:
    one, two = offload_side(streams[0]), offload_side(streams[1])
    await two.plug.set_offload(ALL_OFFLOADS)
    async with running(one, two):
        await one.up()
        await trio.testing.wait_all_tasks_blocked()
        await one.plug.send_offload([SUPER, FRAME])
        assert await taken(two.plug, 2) == [SUPER, FRAME]
        counters = one.link.monitor.counters
        assert (counters.outbound.frames, counters.outbound.bytes) == (2, len(SUPER) + 60)
        assert two.link.monitor.counters.inbound == counters.outbound


@pytest.mark.parametrize("off", ["here", "there"])
async def test_offload_that_one_side_turns_off_is_off_in_both_directions(
    streams: Streams, off: str
) -> None:
    one = offload_side(streams[0], offloads=NO_OFFLOADS if off == "here" else DEFAULT_OFFLOADS)
    two = offload_side(streams[1], offloads=NO_OFFLOADS if off == "there" else DEFAULT_OFFLOADS)
    async with running(one, two):
        for sender, receiver in ((one, two), (two, one)):
            await sender.up()
            await receiver.plug.set_offload(ALL_OFFLOADS)
            await trio.testing.wait_all_tasks_blocked()
            await sender.plug.send_offload([SUPER])
            got = await taken(receiver.plug, 3)
            assert len(got) == 3
            assert not any(isinstance(frame, OffloadFrame) for frame in got)


async def test_hello_has_the_offloads_of_the_endpoint_that_the_settings_allow(
    streams: Streams,
) -> None:
    one, peer = offload_side(streams[0]), Peer(streams[1])
    async with running(one):
        greeting = await peer.next()
        assert isinstance(greeting, Hello)
        assert greeting.offloads == DEFAULT_OFFLOADS


async def test_offload_frame_for_an_endpoint_without_offloads_is_an_error(streams: Streams) -> None:
    one, peer = side(streams[0]), Peer(streams[1])
    async with ending(one):
        greeting = await peer.next()
        assert isinstance(greeting, Hello)
        assert greeting.offloads == NO_OFFLOADS
        await peer.send(
            hello(), encode_frames([SUPER], FRAME_LIMIT_V2, header_kinds(ALL_OFFLOADS)).data
        )
    assert isinstance(one.outcome, RemoteProtocolError)
    assert "which this side does not take" in str(one.outcome)


async def test_peer_of_2008_gets_queued_super_frames_as_segments(
    streams: Streams,
) -> None:
    one, peer = offload_side(streams[0], Wire.AUTO), Peer(streams[1], Wire.V1)
    await one.link._endpoint.set_offload(ALL_OFFLOADS)
    await one.plug.send_offload([SUPER])
    async with running(one):
        await peer.send(frames(FRAME))
        cut = [await peer.next() for _ in range(3)]
        assert all(isinstance(frame, bytes) and checksums_hold(frame) for frame in cut)


async def test_peer_with_fewer_offloads_gets_queued_super_frames_as_segments(
    streams: Streams,
) -> None:
    one, peer = offload_side(streams[0]), Peer(streams[1])
    await one.link._endpoint.set_offload(ALL_OFFLOADS)
    six = Super(bytes(4000), version=6).frame()
    await one.plug.send_offload([SUPER, six])
    async with running(one):
        await peer.send(replace(hello(), offloads=Offload.CSUM | Offload.TSO6))
        assert isinstance(await peer.next(), Hello)
        cut = [await peer.next() for _ in range(3)]
        assert all(isinstance(frame, bytes) and checksums_hold(frame) for frame in cut)
        assert await peer.next() == six


async def test_offloads_are_off_after_the_link_has_ended(streams: Streams) -> None:
    one, peer = offload_side(streams[0]), Peer(streams[1])
    async with ending(one):
        greeting = replace(hello(), offloads=ALL_OFFLOADS)
        await peer.send(greeting)
        await one.up()
        await trio.testing.wait_all_tasks_blocked()
        await one.plug.send_offload([SUPER])
        assert isinstance(await peer.next(), Hello)
        assert isinstance(await peer.next(), OffloadFrame)
        await peer.send(Bye("done"))
    await one.plug.send_offload([SUPER])
    assert len(one.link._endpoint.receive_offload_nowait()) == 3


async def test_frame_with_an_invalid_offload_header_is_dropped_and_counted(
    streams: Streams,
) -> None:
    one, peer = offload_side(streams[0]), Peer(streams[1])
    async with running(one):
        bad = [Super().but(gso_type=9).frame(), Super().but(csum_start=0).frame()]
        data = b"".join(b"\2VK2" + len(f.data).to_bytes(4, "little") + bytes(f.data) for f in bad)
        await peer.send(hello(), data, frames(FRAME))
        assert await one.plug.receive() == [FRAME]
        assert one.link.monitor.counters.inbound.drops == {
            DropReason.UNKNOWN_OFFLOAD: 1,
            DropReason.BAD_OFFLOAD_HEADER: 1,
        }
