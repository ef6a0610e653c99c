"""The sender of a link: control blocks, and what the endpoint has, onto the byte stream.

    endpoint -> Scheduler -> Sender -> stream

The sender's task is the only one that may wait for the stream.  It looks for work when the endpoint
has frames, when a deadline has come, and when another task wakes it.  The latter two cancel the
scope that its loop runs in.  One scope serves many turns, because entering and leaving one would
delay the frame that ends a wait.  Nothing cancels the scope during a write: `wake` acts only while
the sender waits, and a write that has to wait first moves the deadline to infinity.

On an idle link the endpoint's immediate answer is sent immediately (`Sender.on_delivered`): a
kernel has answered a ping before the write that delivered it has returned.  The task that delivered
it sends the answer, without waiting, while the sender waits.  What the stream does not take then,
the sender writes.

A cancelled sender ends the stream: a cancelled `send_all` may have sent part of a block.  A BYE may
follow only if the sender was not in the middle of one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from vknet.congestion.ack_policy import AckPolicy
from vknet.congestion.reverse_delay import stamp
from vknet.link.scheduler import Scheduler
from vknet.packet.ethernet import BATCH_FRAMES
from vknet.wire.blocks import Ack
from vknet.wire.encoder import encode_control

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.counters import TrafficCounters
    from vknet.endpoints.base import Endpoint
    from vknet.packet.ethernet import Frame
    from vknet.packet.virtio import AnyFrame
    from vknet.transport.base import ByteStream
    from vknet.wire.negotiation import Negotiated
    from vknet.wire.session import Session

__all__ = ["Sender"]

# A frame that comes after this time without any is one alone, not one of many.  It is sent without
# a look for a second one, which takes as long as sending the first.
IDLE_S: Final = 0.001

# A deadline nearer than this is not moved: moving it costs as much as an ACK.
FAR_S: Final = 0.004

# The time for a BYE, which is a courtesy; the stream may be stuck.
BYE_TIMEOUT_S: Final = 0.25


class Sender:
    """Writes everything that one side of a link sends.

    Args:
        endpoint: the source of frames.
        session: the source of control blocks.
        counters: counts the frames.

    Attributes:
        scheduler: decides which frames go now and which wait.
        acks: decides when to acknowledge.
        sends_acks: whether the peer wants ACKs.
        stamps_acks: whether it wants a time stamp in them.
        frames_enabled: whether frames are sent, from `enable_frames` on.
    """

    def __init__(self, endpoint: Endpoint, session: Session, counters: TrafficCounters) -> None:
        self.scheduler = Scheduler(counters)
        self.acks = AckPolicy()
        self.sends_acks = False
        self.stamps_acks = False
        self.frames_enabled = False
        self._endpoint = endpoint
        self._session = session
        self._stream: ByteStream | None = None
        self._turns_scope = trio.CancelScope()
        self._deadline = math.inf
        self._waiting = False
        self._mid_block = False
        self._rest = b""
        self._looked_at = -math.inf

    def set_stream(self, stream: ByteStream) -> None:
        """Write to this stream from now on."""
        self._stream = stream

    def on_negotiated(self, terms: Negotiated, now: float) -> None:
        """Send by these terms from now on."""
        self.sends_acks = terms.sends_acks
        self.stamps_acks = terms.stamps_acks
        self.scheduler.on_negotiated(terms, now)

    def enable_frames(self) -> None:
        """Send frames, too, from now on."""
        self.frames_enabled = True
        self.wake()

    async def run(self) -> NoReturn:
        """Write until cancelled.

        Raises:
            trio.BrokenResourceError: the reader of the stream is gone.
            EndpointGone: the endpoint no longer exists.
            trio.ClosedResourceError: the endpoint was closed.
        """
        while True:
            with trio.CancelScope() as self._turns_scope:
                self._deadline = math.inf
                while not self._turns_scope.cancel_called:
                    parts = (self._rest,) if self._rest else self._next_parts()
                    if parts:
                        await self._write(parts)
                    else:
                        await self._wait_for_work()

    def wake(self) -> None:
        """Have the sender look for work."""
        # Never while it writes: it looks again after the write, and it may be in the middle of a
        # block.
        if self._waiting:
            self._waiting = False
            self._turns_scope.cancel()

    def on_delivered(self, size: int, frames: int, now: float) -> None:
        """Acknowledge delivered frames, and send what the endpoint answers.

        Args:
            size: of the frames in bytes, without headers.
            frames: their number.
            now: the time.

        Raises:
            EndpointGone: the endpoint no longer exists.
            trio.ClosedResourceError: the endpoint was closed.
        """
        acks = self.acks
        acks.on_delivered(size, now, frames)
        # Otherwise the sender looks again by itself, at the ACKs as well.
        if self._waiting:
            if self._is_idle(now):
                self._answer()
            soon = min(now + acks.timing.timer_slack_s, self.scheduler.next_at)
            if self._deadline > soon or now >= acks.not_before_alone:
                self._update_deadline(now)

    def _update_deadline(self, now: float) -> None:
        """Have a waiting sender look when something falls due."""
        if not self._waiting:
            return
        when = self.scheduler.next_at
        if self.sends_acks:
            when = min(when, self.acks.alarm(now))
        if not now + FAR_S < self._deadline < when:
            self._set_deadline(when)

    def _answer(self) -> None:
        """Send the frame that the endpoint has now, if it has one."""
        stream = self._stream
        if not self.frames_enabled or stream is None:
            return
        # Once for the first frame alone, and once more to find that there is no second: the window
        # has to know that it is not the limit.
        for _ in range(2):
            parts = self._next_parts()
            if not parts or not self._try(stream, parts):
                return
        self.wake()

    def _try(self, stream: ByteStream, parts: Sequence[Frame]) -> bool:
        """Write without waiting; the sender writes the rest.  Return whether there is none."""
        try:
            sent = stream.send_nowait(*parts)
        except trio.BrokenResourceError:
            # The sender will meet it as well.
            sent = 0
        self._session.on_sent(trio.current_time())
        self._rest = unsent_tail(parts, sent)
        if not self._rest:
            return True
        self._mid_block = sent > 0
        self.wake()
        return False

    async def farewell(self, last: bytes) -> None:
        """Write the last block, if the peer can still parse it, and end the stream."""
        stream = self._stream
        if stream is None:
            return
        with trio.move_on_after(BYE_TIMEOUT_S, shield=True):
            try:
                if last and not self._mid_block:
                    await stream.send_all(last)
                await stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    def _next_parts(self) -> Sequence[Frame]:
        """Return what to write now, control blocks first; empty if there is nothing."""
        session = self._session
        if not self.frames_enabled:
            return (session.data_to_send(),) if session.has_data_to_send else ()
        now = trio.current_time()
        enough = 1 if self._is_idle(now) and not self.scheduler.is_queued else BATCH_FRAMES
        self._looked_at = now
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
        return now - self._looked_at >= IDLE_S

    async def _write(self, parts: Sequence[Frame]) -> None:
        stream = self._stream
        if stream is None:
            raise AssertionError("the sender gets its stream before it runs")
        if rest := unsent_tail(parts, stream.send_nowait(*parts)):
            # A deadline must not cut off the write.
            self._set_deadline(math.inf)
            self._mid_block = True
            await stream.send_all(rest)
        self._mid_block = False
        self._rest = b""
        self._looked_at = trio.current_time()
        self._session.on_sent(self._looked_at)
        # Here, where no frame has been taken and no block begun.
        await trio.lowlevel.checkpoint()

    async def _wait_for_work(self) -> None:
        """Wait for frames, for the deadline, or to be woken."""
        self._waiting = True
        try:
            self._update_deadline(self._looked_at)
            if self.frames_enabled:
                await self._endpoint.wait_receivable()
            else:
                await trio.sleep_forever()
        finally:
            self._waiting = False

    def _set_deadline(self, when: float) -> None:
        if when != self._deadline:
            self._deadline = when
            self._turns_scope.deadline = when


def unsent_tail(parts: Sequence[Frame], sent: int) -> bytes:
    """Return what follows the first `sent` bytes, in one piece."""
    for number, part in enumerate(parts):
        if sent < len(part):
            return b"".join((memoryview(part)[sent:], *parts[number + 1 :]))
        sent -= len(part)
    return b""
