"""When a busy event loop sleeps before it waits, on a clock that the test controls."""

from __future__ import annotations

import trio

from vknet.cli.coalescing import BUSY_WAITS, SHORT_WAIT_S, SLEEP_S, Coalescing

# The length of a short wait, and of a turn of the loop.
SHORT_S = SHORT_WAIT_S / 5

# The length of a wait that is not short.
LONG_S = 2 * SHORT_WAIT_S


class Loop:
    """Calls the instrument as trio's loop does, and records its sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []
        self._coalescing = Coalescing(lambda: self.now, self.sleeps.append)

    def wait(self, waited: float, timeout: float = 5.0) -> None:
        """Wait for `waited` seconds, and take a short turn."""
        self._coalescing.before_io_wait(timeout)
        self.now += waited
        self._coalescing.after_io_wait(timeout)
        self.now += SHORT_S


def busy_loop() -> Loop:
    """Return a loop that will sleep before its next wait."""
    loop = Loop()
    for _ in range(BUSY_WAITS):
        loop.wait(SHORT_S)
    assert loop.sleeps == []
    return loop


def test_busy_loop_sleeps_before_each_wait() -> None:
    loop = busy_loop()
    for _ in range(3):
        loop.wait(SHORT_S)
    assert loop.sleeps == [SLEEP_S] * 3


def test_loop_is_no_longer_busy_after_a_long_wait() -> None:
    loop = busy_loop()
    loop.wait(LONG_S)
    loop.sleeps.clear()
    for _ in range(BUSY_WAITS):
        loop.wait(SHORT_S)
    assert loop.sleeps == []


def test_request_and_response_traffic_is_never_delayed() -> None:
    loop = Loop()
    for _ in range(20):
        # The next request comes after a short wait, and its response after a long one.
        loop.wait(SHORT_S)
        loop.wait(LONG_S)
    assert loop.sleeps == []


def test_busy_loop_with_work_left_does_not_sleep() -> None:
    loop = busy_loop()
    for _ in range(5):
        loop.wait(0, timeout=0)
    assert loop.sleeps == []


def test_poll_does_not_count_as_a_wait() -> None:
    loop = Loop()
    for _ in range(5):
        loop.wait(0, timeout=0)
    loop.wait(SHORT_S)
    assert loop.sleeps == []


def test_timer_that_is_due_sooner_prevents_the_sleep() -> None:
    loop = busy_loop()
    loop.wait(SHORT_S, timeout=SLEEP_S)
    assert loop.sleeps == []


def test_trio_calls_the_instrument() -> None:
    sleeps: list[float] = []

    async def main() -> None:
        trio.lowlevel.add_instrument(Coalescing(lambda: 0.0, sleeps.append))
        for _ in range(BUSY_WAITS + 2):
            await trio.sleep(0.001)

    trio.run(main)
    # The number of sleeps depends on whether the wait in progress was counted.
    assert len(sleeps) >= 1
    assert set(sleeps) == {SLEEP_S}
