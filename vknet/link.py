"""The link: one nursery that holds a byte stream, two pumps and a health watcher.

    endpoint -> _pump_out -> stream          one writer a stream: PING, PONG and HELLO go this way
    stream   -> _pump_in  -> endpoint        one reader; never waits for the writer
    _watch_health                            declares the peer dead, or the wire v1; asks with PING
    carrier's own tasks                      the ssh subprocess and its stderr

When any of them fails, the nursery cancels all of them, and `Link.run` raises the first cause as an
ordinary exception.  Nothing here knows of retrying.

Why it cannot stall: the reader only ever puts control blocks in `_outbox`, which holds one block of
each type at the most, and wakes the writer.  So two sides with full pipes both go on reading.

Why a cancelled writer ends the stream: a cancelled `send_all` may have sent a part of a block.  A
BYE may still follow only when the writer was not in the middle of one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from vknet._version import __version__
from vknet.endpoints.base import Drop
from vknet.errors import (
    EndpointGone,
    PeerGone,
    RemoteProtocolError,
    SetupError,
    VknetError,
)
from vknet.framing import (
    FRAME_LIMIT_V1,
    FRAME_LIMIT_V2,
    Block,
    Bye,
    Control,
    Decoder,
    Ping,
    Pong,
    Wire,
    encode_control,
    encode_frames,
)
from vknet.health import Health
from vknet.hello import Hello, agree_mtu
from vknet.monitor import Monitor, Up

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.abc import Stream

    from vknet.carrier import Carrier
    from vknet.endpoints.base import Endpoint
    from vknet.framing import Frame

__all__ = ["DEFAULT_TIMEOUT", "Link", "LinkSettings"]

log = logging.getLogger("vknet")

DEFAULT_TIMEOUT: Final = 15.0

# Twice what a pipe can be made to hold unprivileged brings nothing more; a quarter costs turns.
RECEIVE_SIZE: Final = 256 * 1024

# How long a peer that was reached may take to say HELLO before it is taken for one of 2008.  A slow
# machine starts Python in two seconds; a HELLO that comes later still makes it v2.
V1_GRACE: Final = 3.0

# Frames that waited longer than this are of no use to anyone; their senders have tried again.
STALE_AFTER: Final = 3.0

# A farewell is a courtesy, and the stream may be stuck.
BYE_PATIENCE: Final = 0.25

# How often the endpoint gets to look after itself.
UPKEEP_INTERVAL: Final = 1.0

ETHERNET_OVERHEAD: Final = 14 + 4

NANOSECONDS: Final = 10**9
TOKEN_MASK: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How a link behaves.

    Attributes:
        wire: what to speak.  `Wire.V2` suits two programs that both use this library.
        timeout: seconds of silence after which the peer is dead; watched by the link where the
            wire is v2, and by ssh where it is v1.
        adopt_timeout: take the peer's timeout instead, if it comes with a HELLO.
    """

    wire: Wire = Wire.V2
    timeout: float = DEFAULT_TIMEOUT
    adopt_timeout: bool = False


class Link:
    """Joins an endpoint to a byte stream until either side fails.

    Args:
        endpoint: borrowed: it is not closed, and may be given to the next link.
        carrier: opens the byte stream; used up.
        settings: how to behave.
        monitor: told the state, and counted in.
        down_since: when the network was last joined, on trio's clock: what has waited in the
            endpoint since then and for too long is dropped.  None is now.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        carrier: Carrier,
        settings: LinkSettings | None = None,
        *,
        monitor: Monitor | None = None,
        down_since: float | None = None,
    ) -> None:
        self.monitor = monitor or Monitor()
        self._endpoint = endpoint
        self._carrier = carrier
        self._settings = settings or LinkSettings()
        self._down_since = down_since
        self._started = 0.0
        self._timeout = self._settings.timeout
        self._health: Health | None = None
        self._decoder = Decoder(self._settings.wire, FRAME_LIMIT_V2)
        self._limit = FRAME_LIMIT_V1
        self._up = trio.Event()
        self._sending = False
        self._version = 1
        self._outbox: dict[type[Control], Control] = {}
        self._idle = trio.CancelScope()
        self._mid_block = False
        self._cause: VknetError | None = None

    @property
    def was_up(self) -> bool:
        """Whether the link is or was up: whether the peer was heard."""
        return self._up.is_set()

    async def run(self) -> NoReturn:
        """Carry frames until the link ends; cancel it to end it cleanly, with a BYE to the peer.

        Raises:
            PeerGone: the peer ended the link, its stream ended, or it fell silent.
            RemoteProtocolError: the peer broke the protocol.
            EndpointGone: the endpoint no longer exists.
            SetupError: the byte stream could not be opened.
        """
        self._started = trio.current_time()
        if self._down_since is None:
            self._down_since = self._started
        self.monitor.attach(self._endpoint)
        stream: Stream | None = None
        try:
            async with trio.open_nursery() as nursery:

                def start_soon(run: Callable[..., Awaitable[None]], *args: object) -> None:
                    nursery.start_soon(partial(self._note_failure, run, *args))

                stream = await self._carrier.open(start_soon)
                nursery.start_soon(self._pump_out, stream)
                start_soon(self._pump_in, stream)
                start_soon(self._watch_health)
        except* VknetError as group:
            self._cause = self._cause or _first(group)
        finally:
            # Only now: a farewell may have gone through the stream until the last task ended.
            if stream is not None:
                await trio.aclose_forcefully(stream)
        if self._cause is None:
            raise AssertionError("a link ends by an error or by being cancelled")
        raise self._cause

    async def _note_failure(self, run: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run one of the link's tasks, and remember which failure came first."""
        try:
            await run(*args)
        except VknetError as exc:
            self._cause = self._cause or exc
            raise

    # --- outwards: endpoint -> stream -------------------------------------------------------------

    async def _pump_out(self, stream: Stream) -> None:
        try:
            await self._note_failure(self._carry_out, stream)
        finally:
            await self._farewell(stream)

    async def _carry_out(self, stream: Stream) -> None:
        if self._settings.wire is Wire.V2:
            self._post(self._hello())
        elif self._settings.wire is Wire.V1:
            self._come_up(None)
        while True:
            data = self._next_turn()
            if data:
                await self._write(stream, data)
            else:
                await self._wait_for_work()

    def _next_turn(self) -> bytes:
        """What to write now: control blocks first, then a batch of frames; empty if nothing."""
        data = b"".join(map(encode_control, self._outbox.values()))
        self._outbox.clear()
        if not self._sending:
            return data
        try:
            frames = self._endpoint.receive_nowait()
        except trio.WouldBlock:
            return data
        encoded = encode_frames(frames, self._limit)
        out = self.monitor.link_counters.outbound
        out.frames += encoded.frames
        out.bytes += encoded.size
        if encoded.refused:
            out.drops[Drop.TOO_LONG] += encoded.refused
        return data + encoded.data if data else encoded.data

    async def _write(self, stream: Stream, data: bytes) -> None:
        self._mid_block = True
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError as exc:
            raise await self._carrier.why_ended() from exc
        self._mid_block = False
        if self._health is not None:
            self._health.sent(trio.current_time())

    async def _wait_for_work(self) -> None:
        with trio.CancelScope() as self._idle:
            if self._sending:
                await self._endpoint.wait_receivable()
            else:
                await trio.sleep_forever()

    async def _farewell(self, stream: Stream) -> None:
        """Tell the peer why, if it can still be told, and that nothing more will come."""
        reason = self._reason()
        with trio.move_on_after(BYE_PATIENCE, shield=True):
            try:
                if reason and not self._mid_block:
                    await stream.send_all(encode_control(Bye(reason)))
                if isinstance(stream, trio.abc.HalfCloseableStream):
                    await stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    def _reason(self) -> str | None:
        """What to say in a BYE; None where the peer knows, or would not understand."""
        if self._settings.wire is not Wire.V2 and self._version < 2:
            return None
        match self._cause:
            case None:
                return "it was stopped"
            case EndpointGone() | RemoteProtocolError():
                return str(self._cause)
            case _:
                return None

    def _post(self, control: Control) -> None:
        """Have the writer send a control block; a newer one of its type replaces it."""
        self._outbox[type(control)] = control
        self._idle.cancel()

    # --- inwards: stream -> endpoint --------------------------------------------------------------

    async def _pump_in(self, stream: Stream) -> None:
        while True:
            try:
                data = await stream.receive_some(RECEIVE_SIZE)
            except trio.BrokenResourceError as exc:
                raise await self._carrier.why_ended() from exc
            if not data:
                why = await self._carrier.why_ended()
                try:
                    self._decoder.end()
                except RemoteProtocolError as exc:
                    raise RemoteProtocolError(f"{exc} ({why})") from why
                raise why
            self._carrier.reached.set()
            if self._health is not None:
                self._health.heard(trio.current_time())
            blocks: list[Block] = []
            try:
                self._decoder.feed(bytes(data), blocks)
            finally:
                await self._take(blocks)

    async def _take(self, blocks: list[Block]) -> None:
        """Act on what the peer sent: control blocks, then the frames of the batch together."""
        frames: list[Frame] = []
        bye: Bye | None = None
        for block in blocks:
            if type(block) is memoryview:
                frames.append(block)
            elif isinstance(block, Bye):
                bye = block
            else:
                await self._control(block)
        if frames:
            if not self.was_up and self._settings.wire is Wire.AUTO:
                self._come_up(None)
            inbound = self.monitor.link_counters.inbound
            inbound.frames += len(frames)
            inbound.bytes += sum(map(len, frames))
            await self._endpoint.send(frames)
        if bye is not None:
            raise PeerGone(f"{self._carrier.peer} ended the link: {bye.reason}")

    async def _control(self, control: Hello | Ping | Pong) -> None:
        match control:
            case Hello():
                await self._greeted(control)
            case Ping(token):
                self._post(Pong(token))
            case Pong(token):
                now = int(trio.current_time() * NANOSECONDS)
                self.monitor.round_trip = ((now - token) & TOKEN_MASK) / NANOSECONDS

    # --- coming up --------------------------------------------------------------------------------

    def _hello(self) -> Hello:
        return Hello(
            program=f"vknet {__version__}",
            endpoint=self._endpoint.name,
            frame_limit=FRAME_LIMIT_V2,
            mtu=self._endpoint.mtu,
            mtu_fixed=self._endpoint.mtu_fixed,
            timeout=self._timeout,
        )

    async def _greeted(self, theirs: Hello) -> None:
        """The peer said HELLO: from here on this is v2."""
        if self._settings.adopt_timeout:
            self._timeout = theirs.timeout
        ours = self._hello()
        if self._settings.wire is Wire.AUTO:
            self._post(ours)
        self._version = 2
        self._limit = min(theirs.frame_limit, FRAME_LIMIT_V2)
        self._health = Health(trio.current_time(), self._timeout, theirs.timeout)
        self._come_up(theirs)
        await self._agree_mtu(ours, theirs)

    async def _agree_mtu(self, ours: Hello, theirs: Hello) -> None:
        mtu = agree_mtu(ours, theirs)
        if ours.mtu is None or mtu is None:
            return
        try:
            done = await self._endpoint.set_mtu(mtu)
            if done and mtu != ours.mtu:
                log.info("%s now has an MTU of %d, as the other side", ours.endpoint, mtu)
        except SetupError as exc:
            log.warning("%s", exc)
            done = False
        if not done:
            log.warning(
                "%s has an MTU of %d and %s on %s one of %s; give both the same",
                self._endpoint.name,
                ours.mtu,
                theirs.endpoint,
                self._carrier.peer,
                theirs.mtu,
            )

    def _come_up(self, hello: Hello | None) -> None:
        """The peer was heard, or need not be: the link is up."""
        self._up.set()
        self._begin_to_send()
        up = Up(
            peer=self._carrier.peer,
            wire=self._version,
            endpoint=self._endpoint.name,
            peer_endpoint=None if hello is None else hello.endpoint,
            took=trio.current_time() - self._started,
        )
        self.monitor.set_state(up)
        log.info(
            "link up: %s to %s%s, wire v%d, after %.2f s",
            up.endpoint,
            up.peer,
            f" {up.peer_endpoint}" if up.peer_endpoint else "",
            up.wire,
            up.took,
        )
        mtu = self._endpoint.mtu
        if self._version == 1 and mtu is not None and mtu + ETHERNET_OVERHEAD > FRAME_LIMIT_V1:
            log.warning(
                "%s speaks wire v1: frames over %d bytes are dropped; an MTU of %d would fit",
                up.peer,
                FRAME_LIMIT_V1,
                FRAME_LIMIT_V1 - ETHERNET_OVERHEAD,
            )

    def _begin_to_send(self) -> None:
        if self._sending:
            return
        now = trio.current_time()
        if now - (self._down_since or now) > STALE_AFTER:
            self._endpoint.discard(Drop.STALE)
        self._sending = True
        self._idle.cancel()

    # --- watching ---------------------------------------------------------------------------------

    async def _watch_health(self) -> None:
        if self._settings.wire is Wire.AUTO:
            await self._watch_beginning()
        elif self._settings.wire is Wire.V2:
            self._health = Health(trio.current_time(), self._timeout)
        while True:
            await self._endpoint.upkeep()
            await self._sleep_and_check(trio.current_time() + UPKEEP_INTERVAL)

    async def _watch_beginning(self) -> None:
        """A peer that was reached and says nothing may be one of 2008 on a quiet network.

        Such a one waits for nothing, so it is sent to; the link counts as up when it is heard.
        """
        await self._carrier.reached.wait()
        with trio.move_on_after(V1_GRACE):
            await self._up.wait()
        if not self.was_up:
            log.info("%s has said nothing yet; sending to it in wire v1", self._carrier.peer)
            self._begin_to_send()

    async def _sleep_and_check(self, until: float) -> None:
        """Sleep, but no longer than the peer's health allows, and look at it."""
        health = self._health
        now = trio.current_time()
        await trio.sleep_until(until if health is None else min(until, health.next_check(now)))
        if health is None or health is not self._health:
            return
        now = trio.current_time()
        if health.is_dead(now):
            raise PeerGone(
                f"{self._carrier.peer} has fallen silent: nothing heard for"
                f" {health.silence(now):.1f} s"
            )
        if health.ping_due(now):
            self._post(Ping(int(now * NANOSECONDS) & TOKEN_MASK))


def _first(group: BaseExceptionGroup[VknetError]) -> VknetError:
    """The first leaf of a group."""
    exc: BaseException = group
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    assert isinstance(exc, VknetError), "except* saw to it"
    return exc
