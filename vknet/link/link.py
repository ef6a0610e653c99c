"""The link: one nursery that holds a byte stream, two pumps and a health watcher.

    endpoint -> _pump_out -> stream          the `Sender`, of control blocks as well
    stream   -> _pump_in  -> endpoint        the only reader; never waits for the writer
    _watch_keepalive                            declares the peer dead, has PINGs sent
    carrier's own tasks                      the ssh subprocess and its stderr

When any of them fails, the nursery cancels all of them, and `Link.run` raises the first cause as an
ordinary exception.  Nothing here knows of retrying.  What the two sides say to each other beside
the frames is the `Session`'s; here it is only carried, and acted on.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from vknet._version import __version__
from vknet.endpoints.base import Drop
from vknet.errors import (
    EndpointGone,
    PeerGone,
    RemoteProtocolError,
    VknetError,
)
from vknet.framing import FRAME_LIMIT_V2, Wire
from vknet.link.apply import adapt
from vknet.link.sender import Sender
from vknet.link.settings import LinkSettings
from vknet.monitor import Monitor, Up
from vknet.packet.virtio import kinds
from vknet.transport.pipes import RECEIVE_SIZE, PipeStream
from vknet.wire.hello import Hello, agree_window
from vknet.wire.session import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from trio.abc import Stream

    from vknet.endpoints.base import Endpoint
    from vknet.transport.base import Transport
    from vknet.wire.session import Received

__all__ = ["Link"]

log = logging.getLogger("vknet")

# Seconds after which the user is told that the peer is still awaited: what is usual, and what is
# not.  Most machines have started Python twice within the first.
SLOW_START_S: Final = 3.0
VERY_SLOW_START_S: Final = 15.0

# Frames that waited longer than this are of no use to anyone; their senders have tried again.
STALE_AFTER: Final = 3.0

# How often the endpoint gets to look after itself.
MAINTAIN_INTERVAL_S: Final = 1.0

ETHERNET_OVERHEAD: Final = 14 + 4


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
        transport: Transport,
        settings: LinkSettings | None = None,
        *,
        monitor: Monitor | None = None,
        down_since: float | None = None,
    ) -> None:
        self.monitor = monitor or Monitor()
        self._endpoint = endpoint
        self._transport = transport
        self._settings = settings or LinkSettings()
        self._started = 0.0
        self._down_since = down_since
        self.monitor.attach(endpoint)
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
            ),
            self._settings.wire,
            adopt_timeout=self._settings.adopt_timeout,
        )
        self._sender = Sender(endpoint, self._session, self.monitor.link_counters.outbound)
        self._stream: Stream | None = None
        self._up = trio.Event()
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
        stream: Stream | None = None
        try:
            async with trio.open_nursery() as nursery:

                def start_soon(run: Callable[..., Awaitable[None]], *args: object) -> None:
                    nursery.start_soon(partial(self._run_task, run, *args))

                with self._noting_failure():
                    self._stream = stream = await self._transport.open(start_soon)
                nursery.start_soon(self._pump_out, stream)
                start_soon(self._pump_in, stream)
                start_soon(self._watch_keepalive)
        except* VknetError:
            # Noted already, whichever came first.
            pass
        finally:
            self._sender.scheduler.end()
            # Only now: a farewell may have gone through the stream until the last task ended.
            # Shielded, so that a cancellation does not take the place of what is being raised.
            with trio.CancelScope(shield=True):
                if stream is not None:
                    await trio.aclose_forcefully(stream)
                # The next peer may be another, with less to it.
                await self._endpoint.set_offload(())
        if self._cause is None:
            raise AssertionError("a link ends by an error or by being cancelled")
        raise self._cause

    async def _run_task(self, run: Callable[..., Awaitable[None]], *args: object) -> None:
        with self._noting_failure():
            await run(*args)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """Remember which failure came first: the others are only its consequences."""
        try:
            yield
        except VknetError as exc:
            self._cause = self._cause or exc
            raise

    # --- outwards: endpoint -> stream -------------------------------------------------------------

    async def _pump_out(self, stream: Stream) -> None:
        self._sender.attach(stream)
        try:
            with self._noting_failure():
                await self._carry_out()
        finally:
            await self._sender.farewell(self._last_words())

    async def _carry_out(self) -> None:
        try:
            await self._sender.run()
        except trio.BrokenResourceError as exc:
            raise await self._transport.why_ended() from exc

    def _last_words(self) -> bytes:
        """The block that tells the peer why, if it can still be told; else nothing."""
        match self._cause:
            case None:
                return self._session.farewell("it was stopped")
            case EndpointGone() | RemoteProtocolError():
                return self._session.farewell(str(self._cause))
            case _:
                return b""

    # --- inwards: stream -> endpoint --------------------------------------------------------------

    async def _pump_in(self, stream: Stream) -> None:
        pipe = stream if isinstance(stream, PipeStream) else None
        data: bytes | memoryview
        while True:
            try:
                if pipe is not None:
                    # Until the next turn, and all that is in it has been handed over by then.
                    data = await pipe.receive_view()
                else:
                    data = bytes(await stream.receive_some(RECEIVE_SIZE))
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

    async def _act_on(self, heard: Received) -> None:
        """Act on what the peer sent: its HELLO first, the frames, then its end."""
        now = trio.current_time()
        if heard.hello is not None:
            # Ours, if it is the answer, does not wait for what follows from theirs.
            self._sender.wake()
            await self._agree(heard.hello, now)
        if heard.batches:
            await self._hand_over(heard)
        # After the frames, which would feel the time it takes.
        if heard.round_trip is not None:
            self.monitor.round_trip = heard.round_trip
        ack = heard.acked
        may_send = ack is not None and self._sender.scheduler.on_ack(ack.total, now, ack.at)
        if may_send or self._session.has_data_to_send:
            self._sender.wake()
        if heard.bye is not None:
            raise PeerGone(f"{self._transport.peer} ended the link: {heard.bye.reason}")
        if heard.error is not None:
            raise heard.error

    async def _hand_over(self, heard: Received) -> None:
        if not self.was_up and self._settings.wire is Wire.AUTO:
            self._come_up(None)
        await self._endpoint.send_batches(heard.batches)
        frames = sum(map(len, heard.batches))
        inbound = self.monitor.link_counters.inbound
        inbound.frames += frames
        inbound.bytes += heard.size
        self._sender.on_delivered(heard.size, frames, trio.current_time())

    # --- coming up --------------------------------------------------------------------------------

    async def _agree(self, hello: Hello, now: float) -> None:
        """Take what follows from the peer's HELLO; the link is up."""
        ours, offloads = self._session.ours, self._settings.offloads
        window = agree_window(ours, hello)
        self._sender.sends_acks = window != 0
        self._sender.stamps_acks = hello.ack_time
        self._sender.scheduler.on_negotiated(
            self._session.frame_limit, kinds(offloads & hello.offloads), window, now
        )
        self._come_up(hello)
        await adapt(self._endpoint, ours, hello, self._transport.peer, offloads)

    def _come_up(self, hello: Hello | None) -> None:
        """The peer was heard, or need not be: the link is up."""
        self._up.set()
        if hello is not None and isinstance(self._stream, PipeStream):
            self._stream.lengthen()
        self._begin_to_send()
        up = Up(
            peer=self._transport.peer,
            wire=self._session.version,
            endpoint=self._endpoint.name,
            peer_endpoint=None if hello is None else hello.endpoint,
            took=trio.current_time() - self._started,
        )
        self.monitor.set_state(up)
        log.info("link up: %s", up.summary)
        limit, mtu = self._session.frame_limit, self._endpoint.mtu
        if mtu is not None and mtu + ETHERNET_OVERHEAD > limit:
            log.warning(
                "%s speaks wire v%d: frames over %d bytes are dropped; an MTU of %d would fit",
                up.peer,
                up.wire,
                limit,
                max(0, limit - ETHERNET_OVERHEAD),
            )

    def _begin_to_send(self) -> None:
        if self._sender.frames_enabled:
            return
        now = trio.current_time()
        if self._down_since is not None and now - self._down_since > STALE_AFTER:
            self._endpoint.discard(Drop.STALE)
        v1 = self._session.version == 1
        if v1 and self._settings.window != 0 and isinstance(self._stream, PipeStream):
            # Without ACKs there is no window: a short pipe is the bound that can be had.
            self._stream.shorten()
        self._sender.begin()

    # --- watching ---------------------------------------------------------------------------------

    async def _watch_keepalive(self) -> None:
        await self._transport.reached.wait()
        reached_at = trio.current_time()
        self._session.start_keepalive(reached_at)
        if self._settings.wire is Wire.V1:
            self._come_up(None)
        said = 0
        while True:
            await self._endpoint.maintain()
            now = trio.current_time()
            await trio.sleep_until(min(now + MAINTAIN_INTERVAL_S, self._session.next_check(now)))
            if self._settings.wire is Wire.AUTO and not self.was_up:
                said = self._check_first_block(trio.current_time() - reached_at, said)
            silence = self._session.check_keepalive(trio.current_time())
            if silence is not None:
                raise PeerGone(
                    f"{self._transport.peer} has fallen silent: nothing heard for {silence:.1f} s"
                )
            if self._session.has_data_to_send:
                self._sender.wake()

    def _check_first_block(self, silence: float, said: int) -> int:
        """Tell the user that the peer has not shown yet what it is, and give up in the end.

        Until then no frame goes to it: it may be a shell, which would run what the frame holds.

        Args:
            silence: seconds since the peer was reached.
            said: how often the user was told before.

        Returns:
            How often the user was told.

        Raises:
            PeerGone: it has been silent for too long.
        """
        peer = self._transport.peer
        if silence >= self._settings.hello_timeout:
            raise PeerGone(
                f"what runs on {peer} has not answered as vknet within"
                f" {self._settings.hello_timeout:g} s: a start-up file there that starts a shell"
                " or hangs, a forced command that is not vknet, a command that asks for a"
                " password, or a vknet of 2008 on a quiet network (for that one: --wire 1)"
            )
        if silence >= VERY_SLOW_START_S and said < 2:
            log.warning(
                "still waiting for vknet on %s; does a start-up file of the shell there hang?", peer
            )
            return 2
        if silence >= SLOW_START_S and said < 1:
            log.info("waiting for vknet on %s to start", peer)
            return 1
        return said
