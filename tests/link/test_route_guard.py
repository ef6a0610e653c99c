"""Routes to the peer that lead through the link."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.support.links import running
from vknet import Lost, Monitor, PeerGone, SetupError, Up
from vknet.endpoints.routes import OtherRouteError, Route, RouteRefusedError
from vknet.link import route_guard
from vknet.link.route_guard import RouteGuard
from vknet.transport.peer_address import PeerAddress, login_address

if TYPE_CHECKING:
    from collections.abc import Callable

PEER = "198.18.9.9"
LOGIN = f'Authenticated to far ([{PEER}]:22) using "publickey".'
OUTSIDE = Route(PEER, 2, "wan0", None, "198.18.0.2")
THROUGH_TAP = Route(PEER, 7, "tap0", None, "198.18.1.2")
THROUGH_BRIDGE = Route(PEER, 5, "bridge0", None, "198.18.1.2")
CARD_IN_BRIDGE = Route(PEER, 5, "bridge0", None, "198.18.3.1")
UP = Up("far", 2, "tap0", "tap0", 0.5)
LOST = Lost(PeerGone("silent"), 5.0)


class Kernel:
    """The routes of a host."""

    def __init__(self) -> None:
        self.route: Route | None = OUTSIDE
        self.added: list[Route] = []
        self.additions = 0
        self.looks = 0
        self.refuses = False
        self.hangs = False
        self.has_other = False

    def route_to(self, address: str) -> Route | None:
        assert address == PEER
        self.looks += 1
        return OUTSIDE if OUTSIDE in self.added else self.route

    def add_host_route(self, route: Route) -> None:
        if self.has_other:
            raise OtherRouteError("there is another host route")
        if self.refuses:
            raise RouteRefusedError("Operation not permitted")
        self.additions += 1
        self.added.append(route)
        if self.hangs:
            raise SetupError("no answer")

    def delete_host_route(self, route: Route) -> None:
        if self.hangs:
            raise SetupError("no answer")
        if route in self.added:
            self.added.remove(route)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    for name in ("route_to", "add_host_route", "delete_host_route"):
        monkeypatch.setattr(route_guard, name, getattr(kernel, name))

    async def run(function: Callable[[], object]) -> object:
        await trio.lowlevel.checkpoint()
        return function()

    monkeypatch.setattr(route_guard, "run_in_thread", run)
    monkeypatch.setattr(RouteGuard, "_bridge", lambda _self: THROUGH_BRIDGE.index)
    return kernel


async def come_up(monitor: Monitor, peer: PeerAddress) -> None:
    """Log in, and bring the link up; the guard sees each of the two."""
    await trio.testing.wait_all_tasks_blocked()
    peer.on_login(LOGIN)
    await trio.testing.wait_all_tasks_blocked()
    monitor.set_state(UP)
    await trio.testing.wait_all_tasks_blocked()


async def lost_with(kernel: Kernel, before: Route, after: Route | None) -> RouteGuard:
    """Have a link come up and be lost, while the route changes."""
    monitor = Monitor()
    peer = PeerAddress()
    guard = RouteGuard(monitor, peer)
    kernel.route = before
    async with running() as nursery:
        nursery.start_soon(guard._watch_link)
        nursery.start_soon(guard._watch_logins)
        await come_up(monitor, peer)
        kernel.route = after
        monitor.set_state(LOST)
        await trio.testing.wait_all_tasks_blocked()
    return guard


@pytest.mark.parametrize(
    ("before", "after"),
    [(OUTSIDE, THROUGH_TAP), (OUTSIDE, THROUGH_BRIDGE), (CARD_IN_BRIDGE, THROUGH_BRIDGE)],
)
async def test_route_through_the_link_is_reported_and_healed(
    kernel: Kernel, before: Route, after: Route, caplog: pytest.LogCaptureFixture
) -> None:
    guard = await lost_with(kernel, before, after)
    assert f"leads through {after.interface} itself" in caplog.messages[0]
    assert before.command in caplog.messages[0]
    assert kernel.added == [before]
    await guard._delete_added()
    assert kernel.added == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (OUTSIDE, OUTSIDE),
        (OUTSIDE, None),
        (CARD_IN_BRIDGE, CARD_IN_BRIDGE),
        (OUTSIDE, Route(PEER, 3, "wlan0", None, "198.18.4.1")),
    ],
)
async def test_other_route_is_left_alone(
    kernel: Kernel, before: Route, after: Route | None, caplog: pytest.LogCaptureFixture
) -> None:
    await lost_with(kernel, before, after)
    assert kernel.added == []
    assert caplog.messages == []


async def test_cure_is_reported_where_no_route_may_be_added(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.refuses = True
    await lost_with(kernel, OUTSIDE, THROUGH_TAP)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "as root: ip route add 198.18.9.9 via 198.18.0.2 dev wan0" in warnings[0]


async def test_route_by_a_router_of_another_family_is_not_added(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    before = Route(PEER, 2, "wan0", None, "fe80::1", is_plain=False)
    await lost_with(kernel, before, THROUGH_TAP)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].endswith("as root: ip route add 198.18.9.9 via ROUTER")
    assert kernel.added == []


async def test_other_host_route_is_reported_with_its_cure(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.has_other = True
    guard = await lost_with(kernel, OUTSIDE, THROUGH_TAP)
    await guard._look()
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert warnings[1] == (
        "another host route is in the way; as root: "
        "ip route replace 198.18.9.9 via 198.18.0.2 dev wan0"
    )


async def test_new_source_address_is_looked_at_once_if_the_route_is_right(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Changes:
        """A change of the host, whenever the test makes one."""

        def __init__(self, *, taps: bool) -> None:
            assert taps

        def __enter__(self) -> Changes:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def clear(self) -> None:
            pass

        async def wait(self) -> None:
            await receive.receive()

    send, receive = trio.open_memory_channel[None](0)
    source = "fd00::1"
    monkeypatch.setattr(route_guard, "HostChanges", Changes)
    monkeypatch.setattr(route_guard, "SETTLE_S", 0)
    monkeypatch.setattr(RouteGuard, "_source_address", lambda _self: source)
    guard = await lost_with(kernel, OUTSIDE, OUTSIDE)
    guard._monitor.set_state(UP)
    async with running() as nursery:
        nursery.start_soon(guard._watch_routes)

        async def looks() -> int:
            before = kernel.looks
            await send.send(None)
            await trio.testing.wait_all_tasks_blocked(0.01)
            return kernel.looks - before

        assert await looks() == 0
        source = "fd00::2"
        assert [await looks(), await looks()] == [1, 0]
        # As long as the route leads through the link, each change may be its cure.
        source = "fd00::3"
        kernel.refuses = True
        kernel.route = THROUGH_TAP
        assert [await looks(), await looks()] == [1, 1]


async def test_end_deletes_the_host_route(kernel: Kernel) -> None:
    monitor, peer = Monitor(), PeerAddress()
    async with running() as nursery:
        nursery.start_soon(RouteGuard(monitor, peer).run)
        await come_up(monitor, peer)
        kernel.route = THROUGH_TAP
        monitor.set_state(LOST)
        await trio.testing.wait_all_tasks_blocked()
        assert kernel.added == [OUTSIDE]
    assert kernel.added == []


async def test_host_route_is_tested_rarely_and_reported_once(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    guard = RouteGuard(monitor := Monitor(), peer := PeerAddress())
    async with running() as nursery:
        nursery.start_soon(guard._watch_link)
        nursery.start_soon(guard._watch_logins)
        await come_up(monitor, peer)
        kernel.route = THROUGH_TAP
        tests: list[int] = []
        for failure in range(1, 21):
            monitor.set_state(LOST)
            await trio.testing.wait_all_tasks_blocked()
            # Without it no attempt can succeed.
            assert kernel.added == [OUTSIDE]
            if kernel.additions > 1 + len(tests):
                tests.append(failure)
        assert tests == [4, 8, 16]
        assert caplog.text.count("vknet has added this route") == 1
        # The host has moved to another network, whose route does not lead through the link.
        kernel.route = Route(PEER, 3, "wlan0", None, "198.18.4.1")
        for _ in range(21, 33):
            monitor.set_state(LOST)
            await trio.testing.wait_all_tasks_blocked()
        assert kernel.added == []


async def test_host_route_is_deleted_although_its_addition_failed_or_was_cancelled(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.hangs = True
    guard = await lost_with(kernel, OUTSIDE, THROUGH_TAP)
    assert kernel.added == [OUTSIDE]
    kernel.hangs = False
    await guard._delete_added()
    assert kernel.added == []

    async def add_and_wait(function: Callable[[], object]) -> object:
        result = function()
        if kernel.added:
            await trio.sleep_forever()
        return result

    monkeypatch.setattr(route_guard, "run_in_thread", add_and_wait)
    with trio.move_on_after(0.01):
        await guard._look()
    assert kernel.added == [OUTSIDE]
    await guard._delete_added()
    assert kernel.added == []
    assert "has added" not in caplog.text


async def test_command_is_printed_if_the_host_route_stays(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    guard = RouteGuard(Monitor(), PeerAddress())
    guard._added = OUTSIDE
    for kernel.hangs in (True, False):
        async with running() as nursery:
            nursery.start_soon(guard.run)
            await trio.testing.wait_all_tasks_blocked()
        assert len(caplog.messages) == 1
        assert caplog.messages[0].endswith("as root: ip route del 198.18.9.9 dev wan0")
    assert guard._added is None


async def test_refused_host_route_is_not_deleted(kernel: Kernel) -> None:
    kernel.refuses = True
    guard = await lost_with(kernel, OUTSIDE, THROUGH_TAP)
    assert guard._added is None


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ('Authenticated to far ([198.18.9.9]:22) using "publickey".', "198.18.9.9"),
        ('Authenticated to far ([fd00::2]:2222) using "password".', "fd00::2"),
        ('Authenticated to far (via proxy) using "publickey".', None),
    ],
)
def test_login_line_has_the_address(line: str, address: str | None) -> None:
    assert login_address(line) == address
