"""The sender of a link: immediate writes, waits, and whole blocks."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.lowlevel import FdStream

from tests.support.blocks import feed
from tests.support.links import running
from tests.support.terms import TERMS
from vknet import MemoryEndpoint, RemoteProtocolError, Wire, memory_endpoint_pair
from vknet.counters import TrafficCounters
from vknet.framing import (
    FRAME_LIMIT_V2,
    Ack,
    encode_control,
)
from vknet.link import sender
from vknet.link.sender import IDLE_S, Sender, unsent_tail
from vknet.packet.ethernet import BATCH_FRAMES
from vknet.packet.virtio import NO_OFFLOADS
from vknet.transport.pipes import PipeStream
from vknet.wire.decoder import Decoder
from vknet.wire.hello import Hello
from vknet.wire.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.support.blocks import Item
    from vknet.packet.virtio import AnyFrame

FRAME = bytes(range(60))
SHORT_PIPE = 4096


class Rig:
    """A sender between an endpoint, into which `plug` puts frames, and a pipe."""

    def __init__(self) -> None:
        there, back = os.pipe(), os.pipe()
        self.stream = PipeStream(FdStream(there[1]), FdStream(back[0]))
        self.far_end = PipeStream(FdStream(back[1]), FdStream(there[0]))
        self.fd = there[0]
        self.plug, self.endpoint = memory_endpoint_pair(capacity=10_000)
        hello = Hello("test", "an endpoint", FRAME_LIMIT_V2, None, mtu_fixed=False, timeout=15.0)
        self.session = Session(hello, Wire.AUTO, adopt_timeout=False)
        self.sender = Sender(self.endpoint, self.session, TrafficCounters(0, 0, Counter()))
        self.sender.set_stream(self.stream)
        self._decoder = Decoder(Wire.AUTO)
        self.acks: list[int] = []

    def shorten_pipe(self) -> None:
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, SHORT_PIPE)

    def speak_v2(self) -> None:
        """Let the sender send ACKs and long frames, and the reader decode them."""
        feed(self._decoder, encode_control(self.session.ours))
        terms = replace(TERMS, offloads=NO_OFFLOADS, window=0, sends_acks=True)
        self.sender.on_negotiated(terms, 0.0)

    def read_nowait(self) -> list[bytes]:
        """Return the frames that are in the pipe."""
        blocks: list[Item] = []
        feed(self._decoder, os.read(self.fd, 1_000_000), blocks)
        self.acks += [block.total for block in blocks if isinstance(block, Ack)]
        return [block for block in blocks if isinstance(block, bytes)]

    def end(self) -> None:
        self._decoder.end()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    async with rig.stream, rig.far_end, rig.plug, rig.endpoint:
        yield rig


@asynccontextmanager
async def sending(rig: Rig) -> AsyncIterator[None]:
    """Run the sender with frames enabled, and begin when it waits for the first one."""
    async with running(rig.sender):
        rig.sender.enable_frames()
        await trio.testing.wait_all_tasks_blocked()
        yield


def answer(rig: Rig) -> None:
    """Tell the sender that the endpoint got a frame, so that it may have an answer now."""
    rig.sender.on_delivered(0, 0, trio.current_time())


async def test_answer_is_sent_before_the_next_task_runs(rig: Rig) -> None:
    async with sending(rig):
        await trio.sleep(IDLE_S)
        rig.plug.send_nowait([FRAME])
        answer(rig)
        assert rig.read_nowait() == [FRAME]


async def test_window_is_app_limited_after_an_answer(rig: Rig) -> None:
    terms = replace(TERMS, offloads=NO_OFFLOADS, window=None)
    rig.sender.scheduler.on_negotiated(terms, trio.current_time())
    window = rig.sender.scheduler.window
    assert window is not None
    async with sending(rig):
        for number in range(1, 6):
            await trio.sleep(3 * IDLE_S)
            rig.plug.send_nowait([FRAME])
            answer(rig)
            rig.sender.scheduler.on_ack(number * len(FRAME), trio.current_time() + number)
        # Otherwise these would be rounds in which no more was delivered than in those before.
        assert window.in_startup


async def test_answer_is_not_sent_before_the_link_is_up(rig: Rig) -> None:
    async with running(rig.sender):
        await trio.testing.wait_all_tasks_blocked()
        rig.plug.send_nowait([FRAME])
        answer(rig)
        with pytest.raises(BlockingIOError):
            rig.read_nowait()


async def test_answer_that_does_not_fit_the_pipe_is_finished_in_order(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.shorten_pipe()
    # Always idle, so that every frame is answered at once.
    monkeypatch.setattr(sender, "IDLE_S", 0.0)
    sent = [number.to_bytes(2, "big") * 2500 for number in range(200)]
    got: list[bytes] = []
    async with sending(rig):
        for number in range(0, len(sent), 10):
            rig.plug.send_nowait(sent[number : number + 10])
            # The sender waits for the endpoint or for the pipe, or was woken; all of them occur.
            answer(rig)
            answer(rig)
            if number % 30 == 0:
                await trio.testing.wait_all_tasks_blocked()
                got += rig.read_nowait()
        with trio.fail_after(5):
            while len(got) < len(sent):
                await trio.lowlevel.wait_readable(rig.fd)
                got += rig.read_nowait()
    assert got == sent


async def test_large_frames_and_acks_arrive_whole_through_a_short_pipe(rig: Rig) -> None:
    rig.shorten_pipe()
    rig.speak_v2()
    sent = [os.urandom(size) for size in range(20_000, 60_000, 1_111)]
    got: list[bytes] = []
    async with sending(rig):
        with trio.fail_after(20):
            for frame in sent:
                rig.plug.send_nowait([frame])
                rig.sender.acks.on_delivered(10_000, trio.current_time())
                while frame not in got:
                    await trio.lowlevel.wait_readable(rig.fd)
                    got += rig.read_nowait()
    assert got == sent
    assert len(rig.acks) > 1
    assert rig.acks == sorted(rig.acks)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=6), max_size=6), st.integers(0, 40))
def test_unsent_tail_is_what_a_partial_write_left(parts: list[bytes], sent: int) -> None:
    assert unsent_tail(parts, sent) == b"".join(parts)[sent:]


async def test_nothing_is_sent_after_a_truncated_answer(rig: Rig) -> None:
    rig.shorten_pipe()
    async with sending(rig):
        await trio.sleep(IDLE_S)
        rig.plug.send_nowait([bytes(2 * SHORT_PIPE)])
        answer(rig)
    assert rig.read_nowait() == []
    await rig.sender.farewell(b"a block that would be taken for a part of the last one")
    # The stream has ended without another byte.
    assert rig.read_nowait() == []
    with pytest.raises(RemoteProtocolError, match="inside a block"):
        rig.end()


class Looked(MemoryEndpoint):
    """Records how many frames each call asked for."""

    asked: list[int]

    def receive_offload_nowait(self, enough: int = BATCH_FRAMES) -> Sequence[AnyFrame]:
        self.asked.append(enough)
        return super().receive_offload_nowait(enough)


async def test_answer_on_a_busy_link_is_left_to_the_sender(
    rig: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    async with sending(rig):
        rig.plug.send_nowait([FRAME])
        answer(rig)
        with pytest.raises(BlockingIOError):
            rig.read_nowait()
        await trio.testing.wait_all_tasks_blocked()
        assert rig.read_nowait() == [FRAME]


async def test_first_frame_after_a_pause_is_sent_before_more_are_read(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Looked, "asked", asked, raising=False)
    rig = Rig()
    monkeypatch.setattr(rig.endpoint, "__class__", Looked)
    async with rig.stream, rig.far_end, rig.plug, rig.endpoint, sending(rig):
        await trio.sleep(2 * IDLE_S)
        asked.clear()
        rig.plug.send_nowait([FRAME] * 3)
        await trio.testing.wait_all_tasks_blocked()
        assert asked == [1, BATCH_FRAMES, BATCH_FRAMES]
        assert rig.read_nowait() == [FRAME] * 3
