"""One side's part in the talk on the wire, beside the frames: what was heard, what is to be said.

Pure: bytes in, bytes out, the time handed in.  The link moves the bytes and acts on what was heard.

What is to be said waits here in a small box that holds one control block of each type at the most,
the newest: a peer that asks a thousand times is answered once.  So taking in never has to wait for
giving out, and two sides with full pipes both go on reading.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, cast

from vknet.errors import RemoteProtocolError
from vknet.framing import (
    FRAME_LIMIT_V1,
    FRAME_LIMIT_V2,
    Ack,
    Bye,
    Control,
    Ping,
    Pong,
    Wire,
    encode_control,
)
from vknet.packet.uniform_batch import UniformBatch
from vknet.packet.virtio import OffloadFrame
from vknet.wire.decoder import Decoder
from vknet.wire.hello import Hello
from vknet.wire.keepalive import Keepalive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.framing import Block
    from vknet.packet.virtio import AnyFrame

__all__ = ["Received", "Session"]

# A PING's token is our clock, so that its PONG says how long it took.
NANOSECONDS: Final = 10**9
TOKEN_MASK: Final = 2**64 - 1


@dataclass(slots=True)
class Received:
    """What a piece of the stream held.

    Attributes:
        batches: of frames, in order; the offload header of one is as the peer sent it, unchecked.
        size: their bytes, without headers of any kind.
        hello: the peer's, if it was in this piece.
        bye: the peer's, if it was in this piece.
        acked: the last ACK, if one was in this piece.
        round_trip: seconds a PING took to come back, if its PONG was in this piece.
        error: how the peer broke the protocol, after all of the above; the end of it.
    """

    batches: list[Sequence[AnyFrame]] = field(default_factory=list)
    size: int = 0
    hello: Hello | None = None
    bye: Bye | None = None
    acked: Ack | None = None
    round_trip: float | None = None
    error: RemoteProtocolError | None = None


class Session:
    """The talk with one peer over one stream.

    Args:
        ours: this side's HELLO; its timeout is this side's, in seconds.
        wire: what to speak.
        adopt_timeout: take over the peer's timeout when its HELLO comes.

    Times are in seconds of any monotonic clock.

    Attributes:
        ours: this side's HELLO as it stands, with the timeout adopted.
        version: of the wire: 1 until the peer's HELLO, 2 from then on.
        frame_limit: the longest frame the peer takes, in bytes.
    """

    def __init__(self, ours: Hello, wire: Wire, *, adopt_timeout: bool) -> None:
        self.ours = ours
        self.version = 1
        self.frame_limit = FRAME_LIMIT_V1
        self._wire = wire
        self._adopt_timeout = adopt_timeout
        self._decoder = Decoder(wire, ours.frame_limit, offload=bool(ours.offloads))
        self._keepalive: Keepalive | None = None
        self._box: dict[type[Control], Control] = {}
        if wire is Wire.V2:
            self._say(ours)

    def start_keepalive(self, now: float) -> None:
        """The peer has been reached: from now on its silence counts, where it has to say HELLO."""
        if self._wire is Wire.V2 and self._keepalive is None:
            self._keepalive = Keepalive(now, self.ours.timeout)

    # --- giving out -------------------------------------------------------------------------------

    @property
    def has_data_to_send(self) -> bool:
        """Whether `data_to_send` has something."""
        return bool(self._box)

    def data_to_send(self) -> bytes:
        """Take out the control blocks that are to be sent before anything else."""
        data = b"".join(map(encode_control, self._box.values()))
        self._box.clear()
        return data

    def on_sent(self, now: float) -> None:
        """Bytes went to the peer."""
        if self._keepalive is not None:
            self._keepalive.on_sent(now)

    def farewell(self, reason: str) -> bytes:
        """The last block of all; empty where the peer would not understand it."""
        if self._wire is not Wire.V2 and self.version < 2:
            return b""
        return encode_control(Bye(reason))

    # --- taking in --------------------------------------------------------------------------------

    def feed(self, data: bytes | memoryview, now: float) -> Received:
        """Take in what the stream brought.  The frames are good for as long as `data` is."""
        if self._keepalive is not None:
            self._keepalive.on_received(now)
        heard = Received()
        before = self._decoder.frame_bytes
        blocks: list[Block] = []
        try:
            only_frames = self._decoder.feed(data, blocks)
        except RemoteProtocolError as exc:
            heard.error = exc
            only_frames = False
        heard.size = self._decoder.frame_bytes - before
        if only_frames:
            if blocks:
                heard.batches.append(cast("list[AnyFrame]", blocks))
            return heard
        batch: list[AnyFrame] = []
        for block in blocks:
            if isinstance(block, UniformBatch):
                heard.batches.append(block)
                batch = []
            elif isinstance(block, (memoryview, OffloadFrame)):
                if not batch:
                    heard.batches.append(batch)
                batch.append(block)
            else:
                self._hear(block, heard, now)
        return heard

    def end(self) -> None:
        """The stream has ended.

        Raises:
            RemoteProtocolError: inside a block.
        """
        self._decoder.end()

    def _hear(self, block: Block, heard: Received, now: float) -> None:
        match block:
            case Hello():
                heard.hello = block
                self._greeted(block, now)
            case Ack():
                heard.acked = block
            case Ping(token):
                self._say(Pong(token))
            case Pong(token):
                sent = int(now * NANOSECONDS)
                heard.round_trip = ((sent - token) & TOKEN_MASK) / NANOSECONDS
            case Bye():
                heard.bye = block

    def _greeted(self, theirs: Hello, now: float) -> None:
        if self._adopt_timeout:
            self.ours = replace(self.ours, timeout=theirs.timeout)
        if self._wire is Wire.AUTO:
            self._say(self.ours)
        self.version = 2
        self.frame_limit = min(theirs.frame_limit, FRAME_LIMIT_V2)
        self._keepalive = Keepalive(now, self.ours.timeout, theirs.timeout)

    def _say(self, control: Control) -> None:
        self._box[type(control)] = control

    # --- the peer's health ------------------------------------------------------------------------

    def check_keepalive(self, now: float) -> float | None:
        """Ask for a sign of life if that is due; the seconds of silence if the peer is dead."""
        health = self._keepalive
        if health is None:
            return None
        if health.is_dead(now):
            return health.silence(now)
        if health.ping_due(now):
            self._say(Ping(int(now * NANOSECONDS) & TOKEN_MASK))
        return None

    def next_check(self, now: float) -> float:
        """When to call `check_keepalive` next; infinity where nobody can be asked, as over v1."""
        return float("inf") if self._keepalive is None else self._keepalive.next_check(now)
