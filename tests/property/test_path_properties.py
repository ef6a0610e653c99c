"""A bottleneck whose rate changes, compared with one that sends bit by bit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vknet.sim.path import Impairment, Path

thoroughly = settings(deadline=None, max_examples=300)

RATES: Final = st.sampled_from([None, 8e2, 8e3, 8e4, 8e6])


@dataclass(frozen=True)
class Step:
    """Time passes, then the rate changes, then frames come."""

    wait: float
    rate: float | None
    sizes: list[int]


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from([0.0, 0.01, 0.5, 3.0]),
        RATES,
        st.lists(st.integers(4, 1500), max_size=4),
    ),
    max_size=8,
)


def send_bit_by_bit(changes: list[Step]) -> dict[int, float]:
    """Return when the bottleneck has sent each frame, by its number: an oracle."""
    now, number = 0.0, 0
    rate: float | None = None
    queue: list[tuple[int, float]] = []
    sent: dict[int, float] = {}
    for step in [*changes, Step(math.inf, 1.0, [])]:
        left = step.wait
        while queue:
            first, bits = queue[0]
            takes = 0.0 if rate is None else bits / rate
            if takes > left:
                queue[0] = first, bits - left * (rate or 0.0)
                break
            now, left = now + takes, left - takes
            sent[first] = now
            queue.pop(0)
        now += left
        rate = step.rate
        for size in step.sizes:
            queue.append((number, 8.0 * size))
            number += 1
    return sent


@thoroughly
@given(steps, st.sampled_from([0.0, 0.25]))
def test_frames_leave_a_bottleneck_of_changing_rate_when_their_bits_are_sent(
    changes: list[Step], delay: float
) -> None:
    impairment = Impairment(Path())
    now, number = 0.0, 0
    found: dict[int, float] = {}

    def take(until: float) -> None:
        while (due := impairment.next_due()) is not None and due <= until:
            for frame in impairment.take(due, 1):
                found[int.from_bytes(frame[:4], "big")] = due

    for step in changes:
        # What comes out exactly when the rate changes has been sent at the old rate.
        take(now + step.wait)
        now += step.wait
        impairment.path = Path(rate=step.rate, delay=delay)
        frames = [(number + n).to_bytes(4, "big").ljust(size, b".") for n, size in
                  enumerate(step.sizes)]  # fmt: skip
        impairment.put(frames, now)
        number += len(frames)
    take(math.inf)
    assert list(found) == sorted(found)
    expected = {number: when + delay for number, when in send_bit_by_bit(changes).items()}
    assert found == pytest.approx(expected)
    assert not impairment.counts.drops
