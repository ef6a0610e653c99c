"""What an endpoint is: a source and sink of whole Ethernet frames, in batches.

Stages of a frame on its way out: `wait_receivable` (only when there was nothing), `receive_nowait`
(drains a batch), the link.  On its way in: the link, `send` (a batch).  System calls are tried
first; trio is asked to wait only after the kernel said EAGAIN.

Frames are plain: whole, with their checksums.  An endpoint that can leave work undone, or have it
done, says so in `accepts`; whoever can do with such frames (`vknet.packet.virtio`) asks for them
with `set_offload`, and uses `receive_offload_nowait` and `send_offload`.  All others never meet
one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import TYPE_CHECKING

import trio

from vknet.packet.ethernet import BATCH_FRAMES
from vknet.packet.gso import plain_frames
from vknet.packet.virtio import NO_OFFLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.counters import DropReason
    from vknet.packet.ethernet import Frame
    from vknet.packet.virtio import AnyFrame, Offload

__all__ = ["Endpoint"]


class Endpoint(trio.abc.AsyncResource):
    """A source and sink of whole Ethernet frames.

    One task may receive and one may send at a time.  An endpoint knows nothing of links and wires;
    whoever opened it closes it.

    Attributes:
        name: what people call it: ``tap0``, ``/var/run/vknet``.
        mtu: in bytes; None where it has none of its own.
        mtu_fixed: a person chose the MTU, or it is not vknet's to change.
        accepts: what may be left undone in the frames that it is sent, by the names of
            `vknet.packet.virtio`; it can hand over such frames itself.
        receive_drops: frames dropped on their way out of the endpoint, by reason (`DropReason`).
        send_drops: frames dropped on their way into it, by reason.
    """

    def __init__(self, name: str, mtu: int | None = None, *, mtu_fixed: bool = False) -> None:
        self.name = name
        self.mtu = mtu
        self.mtu_fixed = mtu_fixed
        self.accepts = NO_OFFLOADS
        self.receive_drops: Counter[DropReason] = Counter()
        self.send_drops: Counter[DropReason] = Counter()

    @abstractmethod
    def receive_nowait(self) -> list[Frame]:
        """Take the frames that are waiting, in order, up to about 128 KiB or 256 frames.

        Returns:
            At least one frame, as bytes or as views that nobody can write to.

        Raises:
            trio.WouldBlock: none is waiting.
            trio.ClosedResourceError: this object was closed.
            EndpointGone: what it stands for no longer exists.
        """

    @abstractmethod
    async def wait_receivable(self) -> None:
        """Wait until `receive_nowait` may have something, or something to raise.

        Cancelling it loses no frame.

        Raises:
            trio.BusyResourceError: another task is waiting.
            trio.ClosedResourceError: this object was closed, perhaps meanwhile.
        """

    @abstractmethod
    async def send(self, frames: Sequence[Frame]) -> None:
        """Hand over a batch, in order.

        A frame that cannot be taken is dropped and counted in `send_drops`.  It may wait for room,
        but never for longer than a moment: Ethernet may drop, it may not stall.  When cancelled, a
        part of the batch may have been handed over.  The frames are not kept after it returns.

        Raises:
            trio.ClosedResourceError: this object was closed.
            EndpointGone: what it stands for no longer exists.
        """

    def try_send(self, frames: Sequence[Frame]) -> int:
        """Hand over the first of these frames, in order, as far as that goes without any waiting.

        Not while a `send` is under way.  The frames are not kept after it returns.

        Returns:
            How many were taken.  The rest is for `send`, which also says what the matter is, if it
            is more than that there is no room.
        """
        del frames
        return 0

    async def set_offload(self, offloads: Offload) -> None:
        """From now on leave undone what of this the endpoint can, by name, and nothing else.

        What is already waiting stays as it is.  It is off until the first call.
        """
        await trio.lowlevel.checkpoint()

    def receive_offload_nowait(self, enough: int = BATCH_FRAMES) -> Sequence[AnyFrame]:
        """As `receive_nowait`, with offload frames for those that have something left undone.

        Args:
            enough: frames after which not to look for more, where a look costs time.
        """
        del enough
        return self.receive_nowait()

    async def send_offload(self, frames: Sequence[AnyFrame]) -> None:
        """As `send`, with offload frames among them; their headers are checked here.

        What the endpoint does not accept is done before the frame is handed over.
        """
        await self.send(plain_frames(frames, self.send_drops))

    async def send_batches(self, batches: Sequence[Sequence[AnyFrame]]) -> None:
        """As `send_offload`, for all of these together: several may be there for being alike."""
        if len(batches) == 1:
            await self.send_offload(batches[0])
        else:
            # One batch, with one patience, for whoever has to wait for room.
            await self.send_offload([frame for batch in batches for frame in batch])

    async def receive(self) -> list[Frame]:
        """Wait for frames and take them, as `receive_nowait` does.

        Cancelling it loses no frame.

        Raises:
            trio.ClosedResourceError: this object was closed, perhaps meanwhile.
            EndpointGone: what it stands for no longer exists.
        """
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self.wait_receivable()

    def discard(self, reason: DropReason) -> int:
        """Drop all that is waiting to be received, counted under `reason`; how many that were.

        Raises:
            trio.ClosedResourceError: this object was closed.
            EndpointGone: what it stands for no longer exists.
        """
        dropped = 0
        try:
            # Bounded: a source that fills as fast as this drains must not hold the program.
            while dropped < 16 * BATCH_FRAMES:
                dropped += len(self.receive_nowait())
        except trio.WouldBlock:
            pass
        self.receive_drops[reason] += dropped
        return dropped

    async def set_mtu(self, mtu: int) -> bool:
        """Take this MTU, in bytes, as agreed with the peer; whether that was done.

        Only an interface that vknet made is changed.
        """
        await trio.lowlevel.checkpoint()
        return mtu == self.mtu

    async def maintain(self) -> None:
        """Put right what was put wrong around the endpoint; called about once a second.

        Raises:
            EndpointGone: what it stands for no longer exists.
        """
        await trio.lowlevel.checkpoint()
