"""A cable between two endpoints that delays, limits, loses and reorders frames.

    a -> _take_in -> Impairment there -> _deliver -> b
    a <- _deliver <- Impairment back  <- _take_in <- b

`_take_in` sets an alarm for the frame that is due next; `_deliver` waits for the alarm.  A new path
sets the alarm as well.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
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
    """Joins two endpoints.  The caller owns them and closes them.

    Args:
        a: one end.
        b: the other end.
        there: the properties of the direction from `a` to `b`.
        back: the properties of the direction from `b` to `a`; None for the same as `there`.
        seed: the seed of all random decisions.  The directions have independent random numbers.

    Attributes:
        there: the direction from `a` to `b`: its `path` may be replaced, its `counts` may be read.
        back: the direction from `b` to `a`, likewise.
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
        self._directions = ((a, self.there, b), (b, self.back, a))
        self._cause: EndpointGone | trio.ClosedResourceError | None = None

    async def run(self) -> NoReturn:
        """Carry frames until cancelled.  The frames on the cable are lost then.

        Raises:
            EndpointGone: an endpoint no longer exists.
            trio.ClosedResourceError: an endpoint was closed.
        """
        with new_alarm() as there, new_alarm() as back, ExitStack() as at_end:
            async with trio.open_nursery() as nursery:

                async def run(task: Awaitable[NoReturn]) -> None:
                    try:
                        await task
                    except (EndpointGone, trio.ClosedResourceError) as exc:
                        self._cause = self._cause or exc
                        nursery.cancel_scope.cancel()

                for (source, impairment, sink), alarm in zip(
                    self._directions, (there, back), strict=True
                ):
                    impairment.on_new_path = partial(_set_alarm, impairment, alarm)
                    at_end.callback(setattr, impairment, "on_new_path", None)
                    nursery.start_soon(run, _take_in(source, impairment, alarm))
                    nursery.start_soon(run, _deliver(impairment, alarm, sink))
        if self._cause is None:
            raise AssertionError("a cable ends by an error or by cancellation")
        raise self._cause


def _set_alarm(impairment: Impairment, alarm: Alarm) -> None:
    """Wake `_deliver` when the next frame is due now that the path was replaced."""
    impairment.take(trio.current_time(), 0)
    due = impairment.next_due()
    if due is not None:
        alarm.set(due)


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
