"""Frames to groups that left through the uplink, to know those that the network returns.  Pure.

A client must not be able to announce a frame of a gateway as its own, so that the real one counts
as an echo: an echo is believed only while the frames of the same client do return.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vknet.packet.ethernet import Frame

__all__ = ["ECHOES_MAX", "ECHO_S", "PROOF_MAX", "RETURN_PROOF", "Echoes", "SentFrames"]

ECHO_S: Final = 2.0
"""How long a frame that left is remembered.  One that takes longer to return has gone round a loop
many times."""
ECHOES_MAX: Final = 256
"""The frames that are remembered of a port."""

RETURN_PROOF: Final = 4
"""A frame that returns adds this to the proof that frames return; one that does not takes 1 from
it.  A network with echoes does not return every frame: a switch that snoops on IGMP does not."""
PROOF_MAX: Final = 16

DIGEST_BYTES: Final = 16


@dataclass(slots=True)
class _Sent:
    """When a frame left last, and when it left first without having returned since."""

    last: float
    unreturned: float | None


class Echoes:
    """What the ports have in common.

    Attributes:
        proof: what a new port begins with.  The frames of all ports add to it and take from it, so
            that a client gains nothing by a new connection.  It is believed at first.
    """

    __slots__ = ("proof",)

    def __init__(self) -> None:
        self.proof = PROOF_MAX // 2


class SentFrames:
    """The frames to groups that came in through a port and left through the uplink.

    Args:
        echoes: that of the switch.
    """

    __slots__ = ("_echoes", "_frames", "_proof")

    def __init__(self, echoes: Echoes) -> None:
        self._echoes = echoes
        self._proof = echoes.proof
        # In the order in which they left last.
        self._frames: OrderedDict[bytes, _Sent] = OrderedDict()

    def __len__(self) -> int:
        """The number of remembered frames."""
        return len(self._frames)

    def note(self, frame: Frame, now: float) -> None:
        """Remember a frame that leaves."""
        self.expire(now)
        key = _digest(frame)
        sent = self._frames.get(key)
        if sent is None:
            self._frames[key] = _Sent(now, now)
            if len(self._frames) > ECHOES_MAX:
                self._end(self._frames.popitem(last=False)[1])
            return
        # A frame that is sent again and again must return, too.
        if sent.unreturned is not None and now - sent.unreturned >= ECHO_S:
            self._end(sent)
            sent.unreturned = None
        if sent.unreturned is None:
            sent.unreturned = now
        sent.last = now
        self._frames.move_to_end(key)

    def is_echo(self, frame: Frame, now: float) -> bool:
        """Whether a frame from outside is one that left a moment ago, and frames do return."""
        sent = self._frames.get(_digest(frame))
        if sent is None or now - sent.last >= ECHO_S:
            return False
        is_believed = self._proof > 0
        if sent.unreturned is not None:
            sent.unreturned = None
            self._add(RETURN_PROOF)
        return is_believed

    def expire(self, now: float) -> None:
        """Forget the frames whose time is over."""
        while self._frames:
            key, sent = next(iter(self._frames.items()))
            if now - sent.last < ECHO_S:
                break
            del self._frames[key]
            self._end(sent)

    def close(self) -> None:
        """Count the remembered frames: the port is gone."""
        for sent in self._frames.values():
            self._end(sent)
        self._frames.clear()

    def _end(self, sent: _Sent) -> None:
        if sent.unreturned is not None:
            self._add(-1)

    def _add(self, proof: int) -> None:
        self._proof = max(0, min(self._proof + proof, PROOF_MAX))
        self._echoes.proof = max(0, min(self._echoes.proof + proof, PROOF_MAX))


def _digest(frame: Frame) -> bytes:
    """Return a digest of a frame without the padding that a network card adds."""
    return blake2b(bytes(frame).rstrip(b"\0"), digest_size=DIGEST_BYTES).digest()
