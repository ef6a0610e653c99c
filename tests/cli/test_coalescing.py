"""When the event loop sleeps before it waits, on a clock of the test's."""

from __future__ import annotations

import trio

from vknet.cli.coalescing import NAP, ROW, SHORT, Coalescing

HARDLY = SHORT / 5


class Loop:
    """Waits as an event loop does."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []
        self._moderation = Coalescing(lambda: self.now, self.naps.append)

    def wait(self, waited: float, timeout: float = 5.0) -> None:
        """Wait for so long, with something to do afterwards that takes a moment."""
        self._moderation.before_io_wait(timeout)
        self.now += waited
        self._moderation.after_io_wait(timeout)
        self.now += HARDLY


def busy() -> Loop:
    """One that is about to sleep before its next wait."""
    loop = Loop()
    for _ in range(ROW):
        loop.wait(HARDLY)
    assert loop.naps == []
    return loop


def test_a_loop_that_hardly_waits_sleeps_before_it_waits_again() -> None:
    loop = busy()
    for _ in range(3):
        loop.wait(HARDLY)
    assert loop.naps == [NAP] * 3


def test_a_loop_that_had_to_wait_is_not_busy_any_more() -> None:
    loop = busy()
    loop.wait(2 * SHORT)
    loop.naps.clear()
    for _ in range(ROW):
        loop.wait(HARDLY)
    assert loop.naps == []


def test_a_question_and_its_answer_in_turn_are_never_slept_upon() -> None:
    loop = Loop()
    for _ in range(20):
        # The next question comes at once, the answer from afar.
        loop.wait(HARDLY)
        loop.wait(2 * SHORT)
    assert loop.naps == []


def test_a_loop_with_something_left_to_do_never_sleeps() -> None:
    loop = busy()
    for _ in range(5):
        loop.wait(0, timeout=0)
    assert loop.naps == []


def test_a_look_does_not_count_as_a_wait() -> None:
    loop = Loop()
    for _ in range(5):
        loop.wait(0, timeout=0)
    loop.wait(HARDLY)
    assert loop.naps == []


def test_a_timer_that_is_due_sooner_keeps_the_loop_awake() -> None:
    loop = busy()
    loop.wait(HARDLY, timeout=NAP)
    assert loop.naps == []


def test_trio_tells_of_its_waits() -> None:
    naps: list[float] = []

    async def main() -> None:
        trio.lowlevel.add_instrument(Coalescing(lambda: 0.0, naps.append))
        for _ in range(ROW + 2):
            await trio.sleep(0.001)

    trio.run(main)
    # The first one is before there was a row, or after the wait that was on when this began.
    assert len(naps) >= 1
    assert set(naps) == {NAP}
