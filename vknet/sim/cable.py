"""A wire between two endpoints that impairs what it carries.

    a -> _take_in -> Impairment there -> _deliver -> b
    a <- _deliver <- Impairment back  <- _take_in <- b

`_take_in` sets an alarm for the frame that is due next; `_deliver` waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import trio

from vknet.errors import EndpointGone
from vknet.packet.ethernet import BATCH_FRAMES
from vknet.sim.alarm import new_alarm
from vknet.sim.path import Impairment, Path

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from vknet.endpoints.base import Endpoint
    from vknet.sim.alarm import Alarm

__all__ = ["Cable"]


class Cable:
    """Joins two endpoints, which stay the caller's.

    Args:
        a: one end.
        b: the other end.
        there: what happens to frames from `a` to `b`.
        back: what happens to frames from `b` to `a`; as `there` if None.
        seed: of all that is random; each direction draws from numbers of its own.

    Attributes:
        there: from `a` to `b` at work: its `path` may be replaced, its `counts` be read.
        back: from `b` to `a`, likewise.
    """

    def __init__(
        self,
        a: Endpoint,
        b: Endpoint,
        *,
        there: Path,
        back: Path | None = None,
        seed: int = 0,
    ) -> None:
        self.there = Impairment(there, f"{seed} there")
        self.back = Impairment(there if back is None else back, f"{seed} back")
        self._lanes = ((a, self.there, b), (b, self.back, a))
        self._cause: EndpointGone | trio.ClosedResourceError | None = None

    async def run(self) -> NoReturn:
        """Carry frames until cancelled; those on their way are lost then.

        Raises:
            EndpointGone: what an endpoint stands for no longer exists.
            trio.ClosedResourceError: an endpoint was closed.
        """
        with new_alarm() as there, new_alarm() as back:
            async with trio.open_nursery() as nursery:

                async def run(task: Awaitable[NoReturn]) -> None:
                    try:
                        await task
                    except (EndpointGone, trio.ClosedResourceError) as exc:
                        self._cause = self._cause or exc
                        nursery.cancel_scope.cancel()

                for (source, impairment, sink), alarm in zip(
                    self._lanes, (there, back), strict=True
                ):
                    nursery.start_soon(run, _take_in(source, impairment, alarm))
                    nursery.start_soon(run, _deliver(impairment, alarm, sink))
        if self._cause is None:
            raise AssertionError("a wire ends by an error or by being cancelled")
        raise self._cause


async def _take_in(source: Endpoint, impairment: Impairment, alarm: Alarm) -> NoReturn:
    while True:
        frames = await source.receive()
        before = impairment.next_due()
        impairment.put(frames, trio.current_time())
        due = impairment.next_due()
        if due is not None and due != before:
            alarm.set(due)


async def _deliver(impairment: Impairment, alarm: Alarm, sink: Endpoint) -> NoReturn:
    while True:
        await alarm.wait()
        frames = impairment.take(trio.current_time(), BATCH_FRAMES)
        if frames:
            await sink.send(frames)
        due = impairment.next_due()
        if due is not None:
            alarm.set(due)
