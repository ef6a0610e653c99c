"""The contract of an endpoint, as checks that run over every implementation.

A `Rig` is an endpoint together with the network behind it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, NoReturn

import pytest
import trio
import trio.testing

from tests.support.links import ending, running
from vknet import Endpoint, EndpointGone
from vknet.counters import DropReason
from vknet.packet.ethernet import BATCH_FRAMES
from vknet.packet.uniform_batch import UniformBatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["CHECKS", "Rig", "frame"]


class Rig(ABC):
    """An endpoint, and the network behind it."""

    endpoint: Endpoint

    @abstractmethod
    async def inject(self, frames: Sequence[bytes]) -> None:
        """Send frames from the network to the endpoint."""

    @abstractmethod
    async def taken(self, count: int) -> list[bytes]:
        """Wait for this number of frames from the endpoint, and return them."""

    @abstractmethod
    async def destroy(self) -> None:
        """Delete the interface of the endpoint, or close the other end of its socket."""


def frame(number: int, size: int = 60) -> bytes:
    """Return a numbered broadcast frame of an experimental EtherType, which no host answers."""
    head = bytes.fromhex("ffffffffffff 020000000001 88b5") + number.to_bytes(4, "big")
    return head.ljust(size, b".")


async def receive_nowait_without_a_frame_would_block(rig: Rig) -> None:
    with pytest.raises(trio.WouldBlock):
        rig.endpoint.receive_nowait()


async def frames_are_received_whole_and_in_order(rig: Rig) -> None:
    sent = [frame(n, 60 + n * 20) for n in range(50)]
    await rig.inject(sent)
    got: list[bytes] = []
    while len(got) < len(sent):
        got += map(bytes, await rig.endpoint.receive())
    assert got == sent


async def frames_are_sent_whole_and_in_order(rig: Rig) -> None:
    sent = [frame(n, 60 + n * 20) for n in range(50)]
    await rig.endpoint.send([memoryview(f) for f in sent])
    assert await rig.taken(len(sent)) == sent


async def batches_are_sent_in_order(rig: Rig) -> None:
    uniform = UniformBatch([frame(n) for n in range(20, 50)], offload=False)
    await rig.endpoint.send_batches([[frame(n) for n in range(20)], uniform, [frame(50)]])
    assert await rig.taken(51) == [frame(n) for n in range(51)]


async def sent_frames_may_be_overwritten_after_send(rig: Rig) -> None:
    # A link reads the next frames into the same buffer.
    lent = bytearray(frame(1) + frame(2))
    views = [memoryview(lent).toreadonly()[at : at + 60] for at in (0, 60)]
    await rig.endpoint.send(views)
    lent[:] = bytes(len(lent))
    assert await rig.taken(2) == [frame(1), frame(2)]


async def waiting_receiver_is_woken_by_a_frame(rig: Rig) -> None:
    got: list[bytes] = []

    async def receive() -> None:
        got.extend(map(bytes, await rig.endpoint.receive()))

    async with ending(receive):
        await trio.testing.wait_all_tasks_blocked()
        await rig.inject([frame(1)])
    assert got == [frame(1)]


async def cancelled_receive_loses_no_frame(rig: Rig) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await rig.endpoint.receive()
    assert scope.cancelled_caught
    await rig.inject([frame(1)])
    with trio.CancelScope() as scope:
        scope.cancel()
        await rig.endpoint.receive()
    assert list(map(bytes, await rig.endpoint.receive())) == [frame(1)]


async def received_batch_is_bounded(rig: Rig) -> None:
    count = BATCH_FRAMES + 20
    await rig.inject([frame(n) for n in range(count)])
    first = rig.endpoint.receive_nowait()
    assert len(first) == BATCH_FRAMES
    second = rig.endpoint.receive_nowait()
    assert [bytes(f) for f in [*first, *second]] == [frame(n) for n in range(count)]


async def empty_frame_is_dropped_and_counted(rig: Rig) -> None:
    await rig.endpoint.send([frame(1), b"", frame(2)])
    assert await rig.taken(2) == [frame(1), frame(2)]
    assert sum(rig.endpoint.send_drops.values()) == 1


async def discarded_frames_are_counted_under_their_reason(rig: Rig) -> None:
    await rig.inject([frame(n) for n in range(3)])
    assert rig.endpoint.discard(DropReason.STALE) == 3
    assert rig.endpoint.receive_drops[DropReason.STALE] == 3
    with pytest.raises(trio.WouldBlock):
        rig.endpoint.receive_nowait()


async def second_waiting_task_is_refused(rig: Rig) -> None:
    async with running(rig.endpoint.wait_receivable):
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await rig.endpoint.wait_receivable()


async def closed_endpoint_raises_everywhere_and_wakes_the_receiver(rig: Rig) -> None:
    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await rig.endpoint.wait_receivable()

    async with ending(wait):
        await trio.testing.wait_all_tasks_blocked()
        await rig.endpoint.aclose()
    await rig.endpoint.aclose()
    with pytest.raises(trio.ClosedResourceError):
        rig.endpoint.receive_nowait()
    with pytest.raises(trio.ClosedResourceError):
        await rig.endpoint.send([frame(1)])
    with pytest.raises(trio.ClosedResourceError):
        await rig.endpoint.wait_receivable()


async def receive_until_error(endpoint: Endpoint) -> NoReturn:
    while True:
        await endpoint.receive()


async def deleted_endpoint_raises_endpoint_gone(rig: Rig) -> None:
    async with ending(rig.destroy):
        with pytest.raises(EndpointGone):
            await receive_until_error(rig.endpoint)
    with pytest.raises(EndpointGone):
        await rig.endpoint.send([frame(1)])


CHECKS: Final[tuple[Callable[[Rig], Awaitable[None]], ...]] = (
    receive_nowait_without_a_frame_would_block,
    frames_are_received_whole_and_in_order,
    frames_are_sent_whole_and_in_order,
    batches_are_sent_in_order,
    sent_frames_may_be_overwritten_after_send,
    waiting_receiver_is_woken_by_a_frame,
    cancelled_receive_loses_no_frame,
    received_batch_is_bounded,
    empty_frame_is_dropped_and_counted,
    discarded_frames_are_counted_under_their_reason,
    second_waiting_task_is_refused,
    closed_endpoint_raises_everywhere_and_wakes_the_receiver,
    deleted_endpoint_raises_endpoint_gone,
)
