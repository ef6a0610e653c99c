"""The contract of an endpoint: a source and sink of whole Ethernet frames, in batches.

    network -> endpoint -> wait_receivable, receive_nowait -> link
    link -> send -> endpoint -> network

Every method tries the system call first.  trio waits for the descriptor only after EAGAIN, because
a wait costs more than the system call.

Frames are plain unless the caller asks for more: whole, with valid checksums.  An endpoint that
handles offload frames (`vknet.packet.virtio`) lists the offloads in `accepts`.  A caller that
handles them too enables them with `set_offload`, receives with `receive_offload_nowait` and sends
with `send_offload`.  A caller that uses only `receive_nowait` and `send` never meets an offload
frame.

Directions are named from the caller's side: what is *received* leaves the endpoint's network, what
is *sent* enters it.

The caller that opened an endpoint owns it and closes it with `aclose`, which may be called twice.
An endpoint owns its descriptor.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Final

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

# The number of frames after which `discard` stops, give or take a batch.  A source that fills as
# fast as it is drained would otherwise stop the event loop.
DISCARD_FRAMES: Final = 16 * BATCH_FRAMES


class Endpoint(trio.abc.AsyncResource):
    """A source and sink of whole Ethernet frames.

    At any time one task may receive and one may send.  An endpoint knows nothing of links, ssh or
    other endpoints.

    Attributes:
        name: the name for messages, such as ``tap0`` or ``/var/run/vknet``.
        mtu: the MTU in bytes; None if the endpoint has none of its own.
        mtu_fixed: the MTU was given by the user, or vknet may not change it.
        macs: the MAC addresses of the host's own interfaces on this network, with the names of the
            interfaces; empty if the endpoint has none.
        accepts: the offloads that the endpoint handles.  `send_offload` passes such frames on as
            they are, and `set_offload` can enable them for received frames.
        receive_drops: the number of frames dropped while they were received, by reason.
        send_drops: the number of frames dropped while they were sent, by reason.
    """

    def __init__(self, name: str, mtu: int | None = None, *, mtu_fixed: bool = False) -> None:
        self.name = name
        self.mtu = mtu
        self.mtu_fixed = mtu_fixed
        self.macs: dict[bytes, str] = {}
        self.accepts = NO_OFFLOADS
        self.receive_drops: Counter[DropReason] = Counter()
        self.send_drops: Counter[DropReason] = Counter()

    @abstractmethod
    def receive_nowait(self) -> list[Frame]:
        """Take the waiting frames, in order, up to about 128 KiB or 256 frames.

        Returns:
            At least one plain frame, as bytes or as a read-only view.  The frames are the caller's:
            later calls do not change them.

        Raises:
            trio.WouldBlock: no frame is waiting.
            trio.ClosedResourceError: this endpoint was closed.
            EndpointGone: the interface was deleted, or the other end of the socket was closed.
        """

    @abstractmethod
    async def wait_receivable(self) -> None:
        """Wait until `receive_nowait` may return frames or raise EndpointGone.

        It takes no frame, so cancelling it loses none.  It may return early: `receive_nowait` may
        still raise trio.WouldBlock.

        Raises:
            trio.BusyResourceError: another task is waiting.
            trio.ClosedResourceError: this endpoint was closed, before the call or during it.
        """

    @abstractmethod
    async def send(self, frames: Sequence[Frame]) -> None:
        """Send plain frames, in order.

        A frame that the endpoint cannot take is dropped and counted in `send_drops`.  If there is
        no room, it waits for a fraction of a second and then drops: Ethernet may drop frames, but
        must not stall.  The frames are not kept after it returns, so the caller may reuse their
        memory.

        If it is cancelled, the first frames may have been sent.  The rest are neither sent nor
        counted.

        Raises:
            trio.ClosedResourceError: this endpoint was closed.
            EndpointGone: the interface was deleted, or the other end of the socket was closed.
        """

    def try_send(self, frames: Sequence[Frame]) -> int:
        """Send the first of these frames, in order, without waiting and without dropping any.

        Do not call it while a `send` is running.  The frames are not kept after it returns.

        Returns:
            The number of frames sent, possibly 0.  Give the rest to `send`, which waits, drops or
            raises as required.
        """
        del frames
        return 0

    @property
    def is_stalled(self) -> bool:
        """Whether the last `send` dropped frames because there was no room for a long time.

        Then `wait_sendable` waits for room.  An endpoint that never waits for room never stalls.
        """
        return False

    async def wait_sendable(self) -> None:
        """Wait until there may be room for frames to send.

        Do not call it while a `send` is running.

        Raises:
            trio.ClosedResourceError: this endpoint was closed, before the call or during it.
        """
        await trio.lowlevel.checkpoint()

    async def set_offload(self, offloads: Offload) -> None:
        """Enable these offloads for received frames, and disable all others.

        Offloads outside `accepts` are ignored.  Frames that are already waiting keep their form.
        All offloads are disabled until the first call.

        Args:
            offloads: the work that may be left undone in a frame that
                `receive_offload_nowait` returns.
        """
        await trio.lowlevel.checkpoint()

    def receive_offload_nowait(self, enough: int = BATCH_FRAMES) -> Sequence[AnyFrame]:
        """Take the waiting frames like `receive_nowait`, offload frames among them.

        A frame with work left undone is an `OffloadFrame`; the others are plain.

        Args:
            enough: the number of frames after which not to look for more.  It is a hint for
                endpoints where each look is a system call.

        Raises:
            trio.WouldBlock: no frame is waiting.
            trio.ClosedResourceError: this endpoint was closed.
            EndpointGone: the interface was deleted, or the other end of the socket was closed.
        """
        del enough
        return self.receive_nowait()

    async def send_offload(self, frames: Sequence[AnyFrame]) -> None:
        """Send frames like `send`, offload frames among them.

        Offload headers are checked here, so they may come from an untrusted peer; a frame that does
        not fit its header is dropped and counted.  Work that the endpoint does not accept is done
        in software.

        Raises:
            trio.ClosedResourceError: this endpoint was closed.
            EndpointGone: the interface was deleted, or the other end of the socket was closed.
        """
        await self.send(plain_frames(frames, self.send_drops))

    async def send_batches(self, batches: Sequence[Sequence[AnyFrame]]) -> None:
        """Send several batches like `send_offload`, in order.

        A `UniformBatch` among them can be sent as one.  All batches share one limit on the time
        spent waiting for room.

        Raises:
            trio.ClosedResourceError: this endpoint was closed.
            EndpointGone: the interface was deleted, or the other end of the socket was closed.
        """
        if len(batches) == 1:
            await self.send_offload(batches[0])
        else:
            await self.send_offload([frame for batch in batches for frame in batch])

    async def receive(self) -> list[Frame]:
        """Wait for plain frames and take them, like `receive_nowait`.

        Cancelling it loses no frame.

        Raises:
            trio.BusyResourceError: another task is waiting.
            trio.ClosedResourceError: this endpoint was closed, before the call or during it.
            EndpointGone: the interface was deleted, or the other end of the socket was closed.
        """
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self.wait_receivable()

    def discard(self, reason: DropReason) -> int:
        """Drop the frames that wait to be received, and count them in `receive_drops`.

        Args:
            reason: the reason to count them under.

        Returns:
            The number of frames dropped.

        Raises:
            trio.ClosedResourceError: this endpoint was closed.
            EndpointGone: the interface was deleted, or the other end of the socket was closed.
        """
        dropped = 0
        try:
            while dropped < DISCARD_FRAMES:
                dropped += len(self.receive_nowait())
        except trio.WouldBlock:
            pass
        self.receive_drops[reason] += dropped
        return dropped

    async def set_mtu(self, mtu: int) -> bool:
        """Change the MTU to the one negotiated with the peer, if vknet may.

        Only an interface that vknet created is changed.  A cancelled call may have changed it.

        Args:
            mtu: in bytes.

        Returns:
            Whether the endpoint has this MTU now.

        Raises:
            SetupError: the kernel refused it.
        """
        await trio.lowlevel.checkpoint()
        return mtu == self.mtu

    def on_new_stations(self) -> None:
        """Note that other stations may be reachable through this endpoint now.

        A link calls it when it comes up, and a switch when a client connects.
        """

    async def maintain(self) -> None:
        """Repair what changed around the endpoint; the link or the daemon calls it about once a
        second.

        Raises:
            EndpointGone: the interface was deleted, or the other end of the socket was closed.
        """
        await trio.lowlevel.checkpoint()
