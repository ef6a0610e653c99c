"""One side of the conversation on the wire: what was received, and what control messages to send.

Pure: bytes in, bytes out, the time handed in.  The link moves the bytes and acts on what is
received.

Control messages that are to be sent wait in an outbox that holds at most one of each type, the
newest: a peer that asks a thousand times is answered once.  So receiving never waits for sending,
and two sides with full pipes both go on reading.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from vknet.wire.blocks import FRAME_LIMIT_V1, Ack, Bye, Control, Ping, Pong, Wire
from vknet.wire.decoder import Decoder
from vknet.wire.encoder import encode_control
from vknet.wire.hello import Hello
from vknet.wire.keepalive import Keepalive
from vknet.wire.negotiation import Negotiated, negotiate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.errors import RemoteProtocolError
    from vknet.packet.virtio import AnyFrame

__all__ = ["Received", "Session"]

# A PING's token is this side's clock, so its PONG tells how long the round trip took.
NANOSECONDS: Final = 10**9
TOKEN_MASK: Final = 2**64 - 1


@dataclass(slots=True)
class Received:
    """The content of a piece of the stream.

    Attributes:
        batches: frames in order, as `vknet.wire.decoder.Decoded` has them.
        size: their bytes, without headers of any kind.
        hello: the peer's HELLO, if it was in this piece.
        bye: the peer's BYE, if it was in this piece.
        ack: the last ACK, if one was in this piece.
        round_trip: seconds from a PING to its PONG, if that was in this piece.
        error: how the peer broke the protocol, behind all of the above; None if it did not.
    """

    batches: list[Sequence[AnyFrame]] = field(default_factory=list)
    size: int = 0
    hello: Hello | None = None
    bye: Bye | None = None
    ack: Ack | None = None
    round_trip: float | None = None
    error: RemoteProtocolError | None = None


class Session:
    """The conversation with one peer over one stream.

    Args:
        ours: this side's HELLO; its timeout is this side's, in seconds.
        wire: which wire to speak.
        adopt_timeout: use the peer's timeout on this side once its HELLO has come.

    Times are in seconds of any monotonic clock.

    Attributes:
        ours: this side's HELLO; its timeout changes if it is adopted.
        negotiated: the terms of the link; None until the peer's HELLO has come.
    """

    def __init__(self, ours: Hello, wire: Wire, *, adopt_timeout: bool) -> None:
        self.ours = ours
        self.negotiated: Negotiated | None = None
        self._wire = wire
        self._adopt_timeout = adopt_timeout
        self._decoder = Decoder(wire, ours.frame_limit, offloads=ours.offloads)
        self._keepalive: Keepalive | None = None
        self._outbox: dict[type[Control], Control] = {}
        if wire is Wire.V2:
            self._send(ours)

    @property
    def version(self) -> int:
        """The version of the wire in use: 1 until the peer's HELLO has come, then 2."""
        return 1 if self.negotiated is None else 2

    @property
    def frame_limit(self) -> int:
        """The longest frame that the peer takes, in bytes."""
        return FRAME_LIMIT_V1 if self.negotiated is None else self.negotiated.frame_limit

    def start_keepalive(self, now: float) -> None:
        """Note that the peer has been reached: if it owes a HELLO, its silence counts from now."""
        if self._wire is Wire.V2 and self._keepalive is None:
            self._keepalive = Keepalive(now, self.ours.timeout)

    # --- sending ----------------------------------------------------------------------------------

    @property
    def has_data_to_send(self) -> bool:
        """Whether a control message waits to be sent."""
        return bool(self._outbox)

    def data_to_send(self) -> bytes:
        """Take the control blocks that are to be sent before anything else."""
        data = b"".join(map(encode_control, self._outbox.values()))
        self._outbox.clear()
        return data

    def on_sent(self, now: float) -> None:
        """Note that bytes went to the peer."""
        if self._keepalive is not None:
            self._keepalive.on_sent(now)

    def farewell(self, reason: str) -> bytes:
        """Encode the last block; it is empty if the peer would not understand it."""
        if self._wire is not Wire.V2 and self.negotiated is None:
            return b""
        return encode_control(Bye(reason))

    # --- receiving --------------------------------------------------------------------------------

    def feed(self, data: bytes | memoryview, now: float) -> Received:
        """Take a piece of the stream.  The frames are valid for as long as `data` is."""
        if self._keepalive is not None:
            self._keepalive.on_received(now)
        decoded = self._decoder.feed(data)
        received = Received(decoded.batches, decoded.size, error=decoded.error)
        for control in decoded.controls:
            self._on_control(control, received, now)
        return received

    def end(self) -> None:
        """Note that the stream has ended.

        Raises:
            RemoteProtocolError: it ended inside a block.
        """
        self._decoder.end()

    def _on_control(self, control: Control, received: Received, now: float) -> None:
        match control:
            case Hello():
                received.hello = control
                self._on_hello(control, now)
            case Ack():
                received.ack = control
            case Ping(token):
                self._send(Pong(token))
            case Pong(token):
                sent = int(now * NANOSECONDS)
                received.round_trip = ((sent - token) & TOKEN_MASK) / NANOSECONDS
            case Bye():
                received.bye = control

    def _on_hello(self, theirs: Hello, now: float) -> None:
        terms = negotiate(self.ours, theirs, adopt_timeout=self._adopt_timeout)
        self.negotiated = terms
        self.ours = replace(self.ours, timeout=terms.timeout)
        if self._wire is Wire.AUTO:
            self._send(self.ours)
        self._keepalive = Keepalive(now, terms.timeout, terms.peer_timeout)

    def _send(self, control: Control) -> None:
        self._outbox[type(control)] = control

    # --- keepalive --------------------------------------------------------------------------------

    def check_keepalive(self, now: float) -> float | None:
        """Send a PING if one is due; return the seconds of silence if the peer is dead."""
        keepalive = self._keepalive
        if keepalive is None:
            return None
        if keepalive.is_dead(now):
            return keepalive.silence(now)
        if keepalive.ping_due(now):
            self._send(Ping(int(now * NANOSECONDS) & TOKEN_MASK))
        return None

    def next_check(self, now: float) -> float:
        """Return when to call `check_keepalive` next; infinity over v1, which has no keepalive."""
        return float("inf") if self._keepalive is None else self._keepalive.next_check(now)
