"""When the event loop sleeps before it waits, on a clock of the test's."""

from __future__ import annotations

import trio

from vknet.moderation import BUSY, NAP, Moderation


class Loop:
    """Waits as an event loop does."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []
        self._moderation = Moderation(lambda: self.now, self.naps.append)

    def wait(self, after: float, timeout: float = 5.0) -> None:
        self.now += after
        self._moderation.before_io_wait(timeout)


def test_the_first_wait_and_one_after_a_pause_are_waits_only() -> None:
    loop = Loop()
    loop.wait(0)
    loop.wait(2 * BUSY)
    loop.wait(60)
    assert loop.naps == []


def test_a_loop_that_waits_again_at_once_sleeps_first() -> None:
    loop = Loop()
    loop.wait(0)
    for _ in range(3):
        loop.wait(BUSY / 5)
    assert loop.naps == [NAP] * 3


def test_a_loop_with_something_left_to_do_never_sleeps() -> None:
    loop = Loop()
    for _ in range(5):
        loop.wait(BUSY / 5, timeout=0)
    assert loop.naps == []


def test_a_look_does_not_count_as_a_wait() -> None:
    loop = Loop()
    loop.wait(0)
    loop.wait(2 * BUSY, timeout=0)
    loop.wait(BUSY / 5)
    assert loop.naps == []


def test_what_is_due_is_not_slept_through() -> None:
    loop = Loop()
    loop.wait(0)
    loop.wait(BUSY / 5, timeout=NAP / 4)
    assert loop.naps == [NAP / 4]


def test_trio_asks_before_it_waits() -> None:
    naps: list[float] = []

    async def main() -> None:
        trio.lowlevel.add_instrument(Moderation(lambda: 0.0, naps.append))
        for _ in range(3):
            await trio.sleep(0.001)

    trio.run(main)
    assert len(naps) >= 3
