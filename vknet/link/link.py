"""The link: one nursery that holds a byte stream, two pumps and a health watcher.

    endpoint -> _pump_out -> stream          the `Sender`; it sends control blocks as well
    stream   -> _pump_in  -> endpoint        the only reader; it never waits for the sender
    _watch_health                            declares a silent peer dead, and asks for PINGs
    _maintain                                maintains the endpoint, which may take seconds
    the transport's own tasks                the ssh subprocess and its stderr

When one of them fails, the nursery cancels all of them, and `Link.run` raises the first cause as an
ordinary exception.  The link knows nothing of retrying.  The `Session` handles control messages;
the link moves the bytes of the session and acts on what it returns.

The states of a link are drawn in docs/architecture.md.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from vknet._version import __version__
from vknet.counters import DropReason
from vknet.errors import (
    EndpointGone,
    PeerGone,
    RemoteProtocolError,
    VknetError,
)
from vknet.link.apply import apply
from vknet.link.first_answer import FirstAnswer
from vknet.link.own_macs import OwnMacWatch
from vknet.link.sender import Sender
from vknet.link.settings import LinkSettings
from vknet.monitor import Monitor, Up
from vknet.packet.ethernet import ETHERNET_HEADER_SIZE, TAG_SIZE
from vknet.packet.virtio import NO_OFFLOADS
from vknet.transport.base import as_byte_stream
from vknet.wire.blocks import FRAME_LIMIT_V2, Wire
from vknet.wire.hello import Hello
from vknet.wire.session import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from vknet.endpoints.base import Endpoint
    from vknet.transport.base import ByteStream, Transport
    from vknet.wire.session import Received

__all__ = ["Link"]

log = logging.getLogger(__name__)

# After a time this long without a link, what waits in the endpoint is dropped: most of it has been
# retransmitted since.
STALE_AFTER_S: Final = 3.0

MAINTAIN_INTERVAL_S: Final = 1.0
CHECK_INTERVAL_S: Final = 1.0

# The bytes of a frame beyond the MTU: its header and one VLAN tag.
ETHERNET_OVERHEAD: Final = ETHERNET_HEADER_SIZE + TAG_SIZE


class Link:
    """Joins an endpoint to a byte stream until either side fails.

    Args:
        endpoint: borrowed; it is not closed, and may be given to the next link.
        transport: opens the byte stream; it cannot be used again.
        settings: how the link behaves.
        monitor: is told the state, and counts the traffic.
        down_since: since when there has been no link, on trio's clock; None is the call of `run`.
            If that was too long ago, what waits in the endpoint when the link comes up is dropped.
        waiting: the reason to count for these frames.

    Attributes:
        up_since: when the link came up, on trio's clock; None before.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        transport: Transport,
        settings: LinkSettings | None = None,
        *,
        monitor: Monitor | None = None,
        down_since: float | None = None,
        waiting: DropReason = DropReason.EARLY,
    ) -> None:
        self.monitor = monitor or Monitor()
        self._endpoint = endpoint
        self._transport = transport
        self._settings = settings or LinkSettings()
        self._started_at = 0.0
        self._down_since = down_since
        self._waiting = waiting
        self.monitor.watch_endpoint(endpoint)
        self._session = Session(
            Hello(
                program=f"vknet {__version__}",
                endpoint=endpoint.name,
                frame_limit=FRAME_LIMIT_V2,
                mtu=endpoint.mtu,
                mtu_fixed=endpoint.mtu_fixed,
                timeout=self._settings.timeout,
                offloads=endpoint.accepts & self._settings.offloads,
                window=self._settings.window,
                ack_time=True,
                macs=frozenset(endpoint.macs),
            ),
            self._settings.wire,
            adopt_timeout=self._settings.adopt_timeout,
        )
        self._own_macs = OwnMacWatch(endpoint, transport.peer)
        self._sender = Sender(endpoint, self._session, self.monitor.link_counters.outbound)
        self.up_since: float | None = None
        self._cause: VknetError | None = None

    @property
    def was_up(self) -> bool:
        """Whether the link is or was up."""
        return self.up_since is not None

    async def run(self) -> NoReturn:
        """Carry frames until the link ends; cancel it to end it cleanly, with a BYE to the peer.

        Raises:
            PeerGone: the peer ended the link, its stream ended, or it fell silent.
            RemoteProtocolError: the peer broke the protocol.
            EndpointGone: the endpoint no longer exists.
            SetupError: the byte stream could not be opened, or the far side has no vknet.
            UsageError: ssh refuses its options.
        """
        self._started_at = trio.current_time()
        if self._down_since is None:
            self._down_since = self._started_at
        stream: ByteStream | None = None
        try:
            async with trio.open_nursery() as nursery:

                def start_soon(run: Callable[..., Awaitable[None]], *args: object) -> None:
                    nursery.start_soon(partial(self._run_task, run, *args))

                with self._noting_failure():
                    stream = as_byte_stream(await self._transport.open(start_soon))
                # It notes its own failure, on which its last block depends.
                nursery.start_soon(self._pump_out, stream)
                start_soon(self._pump_in, stream)
                start_soon(self._watch_health)
                start_soon(self._maintain)
        except* VknetError:
            # `_noting_failure` has kept the first one.
            pass
        finally:
            self._sender.scheduler.end()
            # Not earlier: until the last task has ended, a BYE may still go through the stream.
            # Shielded, so that a cancellation does not replace the exception being raised.
            with trio.CancelScope(shield=True):
                if stream is not None:
                    await trio.aclose_forcefully(stream)
                # The next peer may take fewer offloads.
                await self._endpoint.set_offload(NO_OFFLOADS)
        if self._cause is None:
            raise AssertionError("the nursery ended without an error")
        raise self._cause

    async def _run_task(self, run: Callable[..., Awaitable[None]], *args: object) -> None:
        with self._noting_failure():
            await run(*args)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """Keep the first failure: later ones are its consequences."""
        try:
            yield
        except VknetError as exc:
            self._cause = self._cause or exc
            raise

    # --- outwards: endpoint -> stream -------------------------------------------------------------

    async def _pump_out(self, stream: ByteStream) -> None:
        self._sender.set_stream(stream)
        try:
            with self._noting_failure():
                await self._send()
        finally:
            await self._sender.farewell(self._last_block())

    async def _send(self) -> None:
        try:
            await self._sender.run()
        except trio.BrokenResourceError as exc:
            raise await self._transport.why_ended() from exc

    def _last_block(self) -> bytes:
        """The block that tells the peer why the link ends; empty if it cannot be told any more."""
        match self._cause:
            case None:
                return self._session.farewell("it was stopped")
            case EndpointGone() | RemoteProtocolError():
                return self._session.farewell(str(self._cause))
            case _:
                return b""

    # --- inwards: stream -> endpoint --------------------------------------------------------------

    async def _pump_in(self, stream: ByteStream) -> None:
        while True:
            try:
                # A view is valid until the next call; its frames are delivered by then.
                data = await stream.receive()
            except trio.BrokenResourceError as exc:
                raise await self._transport.why_ended() from exc
            if not data:
                raise await self._why_ended()
            self._transport.reached.set()
            await self._act_on(self._session.feed(data, trio.current_time()))

    async def _why_ended(self) -> VknetError:
        why = await self._transport.why_ended()
        try:
            self._session.end()
        except RemoteProtocolError as exc:
            return RemoteProtocolError(f"{exc} ({why})")
        return why

    async def _act_on(self, received: Received) -> None:
        """Act on what the peer sent: its HELLO, the frames, its ACK, and then the end of the
        link.
        """
        now = trio.current_time()
        if received.batches or received.hello is not None or received.bye is not None:
            self._transport.answered = True
        if received.hello is not None:
            # Woken now, so that an answering HELLO can go out while the terms are applied.
            self._sender.wake()
            await self._on_hello(received.hello, now)
        if received.batches:
            await self._deliver(received)
        # After the frames, which should not wait for this.
        if received.round_trip is not None:
            self.monitor.round_trip = received.round_trip
        ack = received.ack
        may_send = ack is not None and self._on_ack(ack.total, now, ack.at)
        if may_send or self._session.has_data_to_send:
            self._sender.wake()
        if received.bye is not None:
            raise PeerGone(f"{self._transport.peer} ended the link: {received.bye.reason}")
        if received.error is not None:
            raise received.error

    def _on_ack(self, total: int, now: float, at: int | None) -> bool:
        try:
            return self._sender.scheduler.on_ack(total, now, at)
        except ValueError as exc:
            raise RemoteProtocolError(f"the peer {exc}") from exc

    async def _deliver(self, received: Received) -> None:
        # A frame proves that the peer is vknet, but with V2 only a HELLO does.
        if not self.was_up and self._settings.wire is not Wire.V2:
            self._come_up(None)
        self._own_macs.on_frames(received.batches[0])
        await self._endpoint.send_batches(received.batches)
        frames = sum(map(len, received.batches))
        inbound = self.monitor.link_counters.inbound
        inbound.frames += frames
        inbound.bytes += received.size
        self._sender.on_delivered(received.size, frames, trio.current_time())

    # --- coming up --------------------------------------------------------------------------------

    async def _on_hello(self, hello: Hello, now: float) -> None:
        """Take over the negotiated terms, and bring the link up."""
        terms = self._session.negotiated
        if terms is None:
            raise AssertionError("the session negotiates when a HELLO comes")
        self._sender.on_negotiated(terms, now)
        self._come_up(hello)
        self._own_macs.on_hello(hello)
        await apply(self._endpoint, terms, self._session.ours, hello, self._transport.peer)

    def _come_up(self, hello: Hello | None) -> None:
        """Mark the link as up and enable frames: the peer is known to be vknet."""
        if self.up_since is None:
            self.up_since = trio.current_time()
        self._endpoint.on_new_stations()
        if not self._sender.frames_enabled:
            self._start_frames()
        up = Up(
            peer=self._transport.peer,
            wire=self._session.version,
            endpoint=self._endpoint.name,
            peer_endpoint=None if hello is None else hello.endpoint,
            took=trio.current_time() - self._started_at,
        )
        self._transport.up.set()
        self.monitor.set_state(up)
        log.info("link up: %s", up.summary)
        if hello is None and self._settings.wire is Wire.AUTO:
            log.info(
                "%s speaks wire v1: no keepalive, no window, no offloads; if it is not a vknet of"
                ' 2008, sudo or a script has hidden the client\'s "-B wire=2" from it: add that to'
                " the command there",
                up.peer,
            )
        limit, mtu = self._session.frame_limit, self._endpoint.mtu
        if mtu is not None and mtu + ETHERNET_OVERHEAD > limit:
            log.warning(
                "%s speaks wire v%d: frames over %d bytes are dropped; an MTU of %d would fit",
                up.peer,
                up.wire,
                limit,
                max(0, limit - ETHERNET_OVERHEAD),
            )

    def _start_frames(self) -> None:
        now = trio.current_time()
        if self._down_since is not None and now - self._down_since > STALE_AFTER_S:
            self._endpoint.discard(self._waiting)
        self._sender.enable_frames()

    async def _maintain(self) -> None:
        await self._transport.reached.wait()
        while True:
            await self._endpoint.maintain()
            await trio.sleep(MAINTAIN_INTERVAL_S)

    # --- watching ---------------------------------------------------------------------------------

    async def _watch_health(self) -> None:
        await self._transport.reached.wait()
        reached_at = trio.current_time()
        self._session.start_keepalive(reached_at)
        # Without a visible login, a person may still be typing a password.
        sends_first = self._settings.wire is Wire.V1 and self._transport.sees_login
        if sends_first:
            # The link is not up: a peer that never answers counts as a failure.
            log.info("sending frames to %s, which has not answered yet", self._transport.peer)
            self._start_frames()
        first_answer = FirstAnswer(self._transport, self._settings, reached_at)
        while True:
            now = trio.current_time()
            await trio.sleep_until(min(now + CHECK_INTERVAL_S, self._session.next_check(now)))
            if not sends_first and not self.was_up:
                first_answer.check(trio.current_time())
            silence = self._session.check_keepalive(trio.current_time())
            if silence is not None:
                raise PeerGone(
                    f"{self._transport.peer} has fallen silent:"
                    f" nothing received for {silence:.1f} s"
                )
            if self._session.has_data_to_send:
                self._sender.wake()
