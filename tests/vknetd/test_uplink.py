"""The addresses of the uplink: they follow the TAP into another bridge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.support.daemon import settings_of
from vknet.errors import SetupError
from vknet.vknetd.uplink import UplinkAddresses

if TYPE_CHECKING:
    from trio.testing import MockClock


class Tap:
    """A TAP whose bridge a test replaces."""

    bridge_index: int | None = 5


class Attempts:
    """Takes the place of `set_up`: it fails while it has an error."""

    def __init__(self) -> None:
        self.error: str | None = None
        self.times: list[float] = []

    def __call__(self, *_: object) -> None:
        self.times.append(trio.from_thread.run_sync(trio.current_time))
        if self.error is not None:
            raise SetupError(self.error)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    monkeypatch.setattr("vknet.link.backoff.part", lambda: 1.0)
    instead = Attempts()
    monkeypatch.setattr("vknet.vknetd.uplink.set_up", instead)
    return instead


def addresses_of(tap: Any) -> UplinkAddresses:
    return UplinkAddresses(settings_of(Path("/nowhere")), tap)


async def maintain(addresses: UplinkAddresses, seconds: int) -> None:
    for _ in range(seconds):
        await addresses.maintain()
        await trio.sleep(1)


async def test_addresses_are_set_once_on_a_bridge_created_again(
    attempts: Attempts, autojump_clock: MockClock
) -> None:
    del autojump_clock
    tap = Tap()
    addresses = addresses_of(tap)
    await maintain(addresses, 3)
    assert attempts.times == []
    tap.bridge_index = 6
    await maintain(addresses, 5)
    assert len(attempts.times) == 1


async def test_addresses_are_tried_again_with_growing_pauses(
    attempts: Attempts, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    del autojump_clock
    tap = Tap()
    addresses = addresses_of(tap)
    tap.bridge_index = 6
    attempts.error = "the bridge br0 was deleted"
    start = trio.current_time()
    await maintain(addresses, 36)
    assert [round(time - start) for time in attempts.times] == [0, 1, 3, 7, 15, 25, 35]
    assert [record.getMessage() for record in caplog.records] == [attempts.error]
    attempts.error = None
    await maintain(addresses, 30)
    assert len(attempts.times) == 8


async def test_another_bridge_ends_the_pause(attempts: Attempts, autojump_clock: MockClock) -> None:
    del autojump_clock
    tap = Tap()
    addresses = addresses_of(tap)
    attempts.error = "a reason"
    tap.bridge_index = 6
    await maintain(addresses, 20)
    attempts.error = None
    count = len(attempts.times)
    tap.bridge_index = 7
    await maintain(addresses, 1)
    assert len(attempts.times) == count + 1
