"""Byte streams of a link against trio's own checks: pipes, and any adapted trio stream."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing
from trio.lowlevel import FdStream

from vknet.transport.base import AdaptedStream, StreamTransport, as_byte_stream
from vknet.transport.pipes import PipeStream


class OneWay(trio.abc.Stream):
    """A stream that cannot be half-closed."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def adapted_pair() -> tuple[AdaptedStream, AdaptedStream]:
    one, two = trio.socket.socketpair()
    return AdaptedStream(trio.SocketStream(one)), AdaptedStream(trio.SocketStream(two))


async def clogged_pair() -> tuple[AdaptedStream, AdaptedStream]:
    """A pair in which each stream takes no more bytes until the other one has read some."""
    one, two = await adapted_pair()
    for stream in (one, two):
        with trio.move_on_after(0.1):
            while True:
                await stream.send_all(bytes(65536))
    return one, two


async def pipe_pair() -> tuple[PipeStream, PipeStream]:
    there, back = os.pipe(), os.pipe()
    one = PipeStream(FdStream(there[1]), FdStream(back[0]))
    return one, PipeStream(FdStream(back[1]), FdStream(there[0]))


async def test_adapted_stream_keeps_trios_contract() -> None:
    await trio.testing.check_half_closeable_stream(adapted_pair, clogged_pair)


async def test_pipe_stream_keeps_trios_contract() -> None:
    await trio.testing.check_two_way_stream(pipe_pair, None)


async def test_adapted_stream_receives_and_writes_nothing_at_once() -> None:
    one, two = map(AdaptedStream, trio.testing.memory_stream_pair())
    async with one, two:
        assert one.send_nowait(b"a", b"b") == 0
        await one.send_all(b"bytes")
        data = await two.receive()
        assert (type(data), data) == (bytes, b"bytes")
        await one.send_eof()
        assert await two.receive() == b""


async def test_adapted_stream_that_has_no_half_close_ignores_send_eof() -> None:
    inner, far_end = trio.testing.memory_stream_pair()
    stream = AdaptedStream(OneWay(inner))
    async with stream, far_end:
        with trio.testing.assert_checkpoints():
            await stream.send_eof()
        await stream.send_all(b"still open")
        assert await far_end.receive_some() == b"still open"
    with pytest.raises(trio.ClosedResourceError):
        await inner.send_all(b"x")


async def test_stream_transport_opens_its_stream() -> None:
    def start_soon(*_: object) -> None:
        raise AssertionError("a stream that is open needs no task")

    inner, _ = trio.testing.memory_stream_pair()
    transport = StreamTransport(inner)
    assert await transport.open(start_soon) is inner
    assert transport.reached.is_set()


async def test_only_what_is_no_byte_stream_is_adapted() -> None:
    one, two = await pipe_pair()
    async with one, two:
        assert as_byte_stream(one) is one
    inner, _ = trio.testing.memory_stream_pair()
    assert isinstance(as_byte_stream(inner), AdaptedStream)
