"""The stream of two pipes."""

from __future__ import annotations

import fcntl
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from trio.lowlevel import FdStream

from tests.support.blocks import feed
from tests.support.links import ending, running
from vknet import Link, LinkSettings, StreamTransport, memory_endpoint_pair
from vknet.framing import (
    FRAME_LIMIT_V2,
    Bye,
    Wire,
    encode_control,
)
from vknet.transport.base import RECEIVE_SIZE
from vknet.transport.pipes import PIPE_SIZE, PipeStream
from vknet.wire.decoder import Decoder
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from tests.support.blocks import Item


def pair() -> tuple[PipeStream, PipeStream]:
    there, back = os.pipe(), os.pipe()
    one = PipeStream(FdStream(there[1]), FdStream(back[0]))
    return one, PipeStream(FdStream(back[1]), FdStream(there[0]))


async def test_more_bytes_than_a_pipe_holds_cross_in_both_directions() -> None:
    one, two = pair()
    data = os.urandom(3 * PIPE_SIZE)
    got = bytearray()
    async with one, two, ending(partial(one.send_all, data)):
        while len(got) < len(data):
            got += await two.receive_some(100_000)
        await two.send_all(b"answer")
        assert await one.receive_some() == b"answer"
    assert got == data


async def test_received_view_shares_one_buffer_and_ends_with_the_stream() -> None:
    one, two = pair()
    async with one, two:
        await one.send_all(b"first")
        first = await two.receive()
        assert bytes(first) == b"first"
        assert first.readonly
        await one.send_all(b"other")
        assert bytes(await two.receive()) == b"other"
        assert bytes(first) == b"other"
        await one.send_all(bytes(2 * RECEIVE_SIZE))
        assert len(await two.receive()) <= RECEIVE_SIZE
        await one.send_eof()
        while await two.receive():
            pass
        await two.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await two.receive()


async def test_sent_bytes_are_readable_before_other_tasks_run() -> None:
    one, two = pair()
    async with one, two, ending(partial(one.send_all, b"at once")):
        await trio.lowlevel.checkpoint()
        with trio.CancelScope() as scope:
            assert await two.receive_some() == b"at once"
            scope.cancel()


async def test_cancelled_send_sends_nothing() -> None:
    one, two = pair()
    async with one, two:
        with trio.CancelScope() as scope:
            scope.cancel()
            await one.send_all(b"nothing")
        assert scope.cancelled_caught
        with trio.move_on_after(0) as scope:
            await two.receive_some()
        assert scope.cancelled_caught


async def test_flooding_task_lets_other_tasks_run() -> None:
    one, two = pair()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with one, two, running(other):
        for _ in range(100):
            await one.send_all(b"x")
            await two.receive_some()
    assert turns >= 100


async def test_ended_or_closed_stream_raises() -> None:
    one, two = pair()
    await one.send_eof()
    assert await two.receive_some() == b""
    with pytest.raises(trio.ClosedResourceError):
        await one.send_all(b"x")
    await two.aclose()
    await one.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await one.receive_some()


async def test_pipe_whose_reader_is_closed_is_broken() -> None:
    one, two = pair()
    await two.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await one.send_all(b"x")
    await one.aclose()


async def test_closing_wakes_a_waiting_receiver() -> None:
    one, two = pair()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await two.receive_some()

    async with one, ending(wait):
        await trio.testing.wait_all_tasks_blocked()
        await two.aclose()


async def test_pipes_are_enlarged_and_sockets_are_accepted() -> None:
    one, two = pair()
    async with one, two:
        assert fcntl.fcntl(one._sending.fileno(), fcntl.F_GETPIPE_SZ) == PIPE_SIZE
        assert fcntl.fcntl(one._receiving.fileno(), fcntl.F_GETPIPE_SZ) == PIPE_SIZE
    left, right = socket.socketpair()
    stream = PipeStream(FdStream(os.dup(left.fileno())), FdStream(left.detach()))
    async with stream:
        await stream.send_all(b"as well")
        assert right.recv(100) == b"as well"
    right.close()


async def test_busy_link_that_is_stopped_sends_a_bye() -> None:
    one, two = pair()
    plug, endpoint = memory_endpoint_pair()
    link = Link(endpoint, StreamTransport(one), LinkSettings(Wire.AUTO, window=0))
    decoder = Decoder(Wire.AUTO)
    blocks: list[Item] = []

    async def flood() -> None:
        while True:
            await plug.send([bytes(1000)] * 10)
            await trio.lowlevel.checkpoint()

    async def read() -> None:
        while data := await two.receive_some():
            feed(decoder, data, blocks)
            if len(blocks) > 200:
                work.cancel()

    async with two, ending(read):
        hello = Hello("test", "an endpoint", FRAME_LIMIT_V2, None, mtu_fixed=False, timeout=15)
        await two.send_all(encode_control(hello))
        with trio.CancelScope() as work:
            async with ending(flood, link):
                pass
    decoder.end()
    assert isinstance(blocks[-1], Bye)
