"""The writer of a link: what there is to say, and what the endpoint has, onto the byte stream.

    endpoint -> Egress -> Writer -> stream

The writer's task is the only one that waits to write.  It looks again whenever the endpoint has
something, when some time has come, and when it is woken.  Its wait, and only that, is in a cancel
scope of its own, for these two; there is one scope for many waits, since its coming and going would
be felt on the way of a frame that ends a wait.

Where nobody looked for a while, what the endpoint answers at once goes at once
(`Sender.on_delivered`): a kernel has answered a ping before the write that brought it has returned.
That is done from the task that brought it, while the writer waits; what the stream does not take
then, the writer ends.

Why a writer that is cancelled ends the stream: a cancelled `send_all` may have sent a part of a
block.  A BYE may still follow only when it was not in the middle of one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from vknet.congestion.ack_policy import AckPolicy
from vknet.congestion.reverse_delay import stamp
from vknet.endpoints.base import BATCH_FRAMES
from vknet.framing import Ack, encode_control
from vknet.link.scheduler import Scheduler
from vknet.transport.pipes import PipeStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.abc import Stream

    from vknet.endpoints.base import Endpoint
    from vknet.framing import Frame
    from vknet.monitor import TrafficCounters
    from vknet.packet.virtio import AnyFrame
    from vknet.wire.session import Session

__all__ = ["Sender"]

# Where nobody looked for so many seconds, a frame is not one of many.  It goes alone: to look for a
# second one, and find none, takes as long as to send the first.
IDLE: Final = 0.001

# To put an alarm off costs as much as an ACK does, so one that is so many seconds away stays.
FAR: Final = 0.004

# A farewell is a courtesy, and the stream may be stuck.
BYE_PATIENCE: Final = 0.25


class Sender:
    """Everything that one side of a link writes.

    Args:
        endpoint: where the frames come from.
        talk: what else is to be said.
        counted: where to count the frames.

    Attributes:
        egress: what goes now, and what waits.
        acks: what is to be acknowledged.
        acknowledges: whether the peer wants that.
        stamps_acks: whether it wants to know when an ACK was written.
        carries: whether frames are carried, too: from `begin` on.
    """

    def __init__(self, endpoint: Endpoint, session: Session, counted: TrafficCounters) -> None:
        self.scheduler = Scheduler(counted)
        self.acks = AckPolicy()
        self.sends_acks = False
        self.stamps_acks = False
        self._endpoint = endpoint
        self._session = session
        self._stream: Stream | None = None
        self._pipe: PipeStream | None = None
        self.frames_enabled = False
        self._idle = trio.CancelScope()
        self._looks_at = math.inf
        self._waiting = False
        self._mid_block = False
        self._rest = b""
        self._turned_at = -math.inf

    def attach(self, stream: Stream) -> None:
        """Write to this stream from now on."""
        self._stream = stream
        self._pipe = stream if isinstance(stream, PipeStream) else None

    def begin(self) -> None:
        """Carry frames, too, from now on."""
        self.frames_enabled = True
        self.wake()

    async def run(self) -> NoReturn:
        """Write until cancelled.

        Raises:
            trio.BrokenResourceError: nobody reads the stream any more.
            EndpointGone: what the endpoint stands for no longer exists.
            trio.ClosedResourceError: the endpoint was closed.
        """
        while True:
            with trio.CancelScope() as self._idle:
                self._looks_at = math.inf
                while not self._idle.cancel_called:
                    parts = (self._rest,) if self._rest else self._next_turn()
                    if parts:
                        await self._write(parts)
                    else:
                        await self._wait_for_work()

    def wake(self) -> None:
        """There is something to say, or to do: have the writer look."""
        # Never while it writes: it looks by itself when it has written, and may be in mid-block.
        if self._waiting:
            self._waiting = False
            self._idle.cancel()

    def on_delivered(self, size: int, frames: int, now: float) -> None:
        """So many bytes were handed to the endpoint: acknowledge them, and send what it answers.

        Args:
            size: of the frames, without headers.
            frames: how many.
            now: the time.

        Raises:
            EndpointGone: what the endpoint stands for no longer exists.
            trio.ClosedResourceError: the endpoint was closed.
        """
        acks = self.acks
        acks.on_delivered(size, now, frames)
        # Else the writer looks by itself, and at the ACKs as well.
        if self._waiting:
            if self._is_idle(now):
                self._answer()
            soon = min(now + acks.timing.timer_slack_s, self.scheduler.next_at)
            if self._looks_at > soon or now >= acks.not_before_alone:
                self._look_in_time(now)

    def _look_in_time(self, now: float) -> None:
        """Have the writer look when something falls due, if it waits: else it looks by itself."""
        if not self._waiting:
            return
        when = self.scheduler.next_at
        if self.sends_acks:
            when = min(when, self.acks.alarm(now))
        if not now + FAR < self._looks_at < when:
            self._look_at(when)

    def _answer(self) -> None:
        """Send the frame that the endpoint has now: none went of late, and the writer waits."""
        if not self.frames_enabled or self._pipe is None:
            return
        # The first frame alone; and then once more, to see that there is nothing else: a window
        # has to know that it is not the limit.
        for _ in range(2):
            parts = self._next_turn()
            if not parts or not self._try(self._pipe, parts):
                return
        self.wake()

    def _try(self, pipe: PipeStream, parts: Sequence[Frame]) -> bool:
        """Write this; whether all of it went.  What did not is left to the writer, which wakes."""
        try:
            sent = pipe.send_nowait(*parts)
        except trio.BrokenResourceError:
            # The writer will meet it as well.
            sent = 0
        self._session.on_sent(trio.current_time())
        self._rest = unsent_tail(parts, sent)
        if not self._rest:
            return True
        self._mid_block = sent > 0
        self.wake()
        return False

    async def farewell(self, last: bytes) -> None:
        """Write this block, if that can still be understood, and end the stream; in a moment."""
        stream = self._stream
        with trio.move_on_after(BYE_PATIENCE, shield=True):
            try:
                if last and stream is not None and not self._mid_block:
                    await stream.send_all(last)
                if isinstance(stream, trio.abc.HalfCloseableStream):
                    await stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    def _next_turn(self) -> Sequence[Frame]:
        """What to write now, in parts: control blocks first, then frames; none if nothing."""
        session = self._session
        if not self.frames_enabled:
            return (session.data_to_send(),) if session.has_data_to_send else ()
        now = trio.current_time()
        enough = 1 if self._is_idle(now) and not self.scheduler.is_queued else BATCH_FRAMES
        self._turned_at = now
        frames: Sequence[AnyFrame]
        try:
            frames = self._endpoint.receive_offload_nowait(enough)
        except trio.WouldBlock:
            frames = ()
        parts = self.scheduler.next_writes(frames, now)
        acks = self.acks
        if self.sends_acks and now >= acks.not_before and now >= acks.due(piggyback=bool(parts)):
            at = stamp(now) if self.stamps_acks else None
            parts = (encode_control(Ack(acks.delivered_bytes, at)), *parts)
            acks.on_ack_sent(now)
        return (session.data_to_send(), *parts) if session.has_data_to_send else parts

    def _is_idle(self, now: float) -> bool:
        return now - self._turned_at >= IDLE

    async def _write(self, parts: Sequence[Frame]) -> None:
        if self._stream is None:
            raise AssertionError("a writer is attached to a stream before it runs")
        sent = 0 if self._pipe is None else self._pipe.send_nowait(*parts)
        if rest := unsent_tail(parts, sent):
            # What is written is not to be cut off.
            self._look_at(math.inf)
            self._mid_block = True
            await self._stream.send_all(rest)
        self._mid_block = False
        self._rest = b""
        self._turned_at = trio.current_time()
        self._session.on_sent(self._turned_at)
        # Here, where no frame has been taken out and no block has been begun.
        await trio.lowlevel.checkpoint()

    async def _wait_for_work(self) -> None:
        """Wait for the endpoint, for what is due at some time, or until it is woken."""
        self._waiting = True
        try:
            self._look_in_time(self._turned_at)
            if self.frames_enabled:
                await self._endpoint.wait_receivable()
            else:
                await trio.sleep_forever()
        finally:
            self._waiting = False

    def _look_at(self, when: float) -> None:
        if when != self._looks_at:
            self._looks_at = when
            self._idle.deadline = when


def unsent_tail(parts: Sequence[Frame], sent: int) -> bytes:
    """What comes after the first so many bytes, in one piece."""
    for number, part in enumerate(parts):
        if sent < len(part):
            return b"".join((memoryview(part)[sent:], *parts[number + 1 :]))
        sent -= len(part)
    return b""
