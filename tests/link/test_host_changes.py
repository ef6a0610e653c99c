"""Changes of this host: what is noticed, and what is forgotten."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from vknet.endpoints.routes import ROUTE_PROTOCOL
from vknet.link import host_changes
from vknet.link.host_changes import HostChanges

if TYPE_CHECKING:
    from trio.testing import MockClock


TAP, CARD, BRIDGE = 70_007, 70_002, 70_005
ETHER, NONE = 1, 0xFFFE
NEW_LINK, DEL_LINK, NEW_ADDRESS, NEW_ROUTE = 16, 17, 20, 24


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def link(
    index: int,
    kind: str = "",
    *,
    type_: int = ETHER,
    master: int = 0,
    message_kind: int = NEW_LINK,
    family: int = socket.AF_UNSPEC,
) -> bytes:
    body = struct.pack("=BxHiII", family, type_, index, 0, 0)
    if master:
        body += attribute(10, struct.pack("=I", master))
    if kind:
        body += attribute(18, attribute(1, kind.encode() + b"\0"))
    return message(message_kind, body)


def address(index: int, scope: int = 0) -> bytes:
    return message(NEW_ADDRESS, struct.pack("=BBBBI", 10, 64, 0, scope, index))


def route(index: int, *, protocol: int = 3, table: int = 254, target: bytes = b"") -> bytes:
    body = struct.pack("=BBBBBBBBI", 10, 0, 0, 0, table, protocol, 0, 1, 0)
    if target:
        body += attribute(1, target)
    return message(NEW_ROUTE, body + attribute(4, struct.pack("=I", index)))


class FakeNetlink:
    """A socket pair in place of the netlink socket, so that a test sends the messages."""

    def __init__(self, changes: HostChanges) -> None:
        if changes._socket is not None:
            changes._socket.close()
        changes._socket, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        changes._socket.setblocking(False)


async def test_message_during_the_wait_ends_it() -> None:
    with HostChanges() as changes:
        netlink = FakeNetlink(changes)
        with netlink.kernel:
            async with trio.open_nursery() as nursery:
                seen: list[str] = []

                async def wait() -> None:
                    seen.append(await changes.wait())

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                assert not seen
                netlink.kernel.send(address(CARD))
    assert seen == ["the network of this host changed"]


async def test_message_before_the_wait_counts_unless_it_is_cleared() -> None:
    with HostChanges() as changes:
        netlink = FakeNetlink(changes)
        with netlink.kernel:
            netlink.kernel.send(address(CARD))
            netlink.kernel.send(link(CARD))
            assert await changes.wait() == "the network of this host changed"
            netlink.kernel.send(route(CARD))
            changes.clear()
            with trio.move_on_after(0.01) as scope:
                await changes.wait()
            assert scope.cancelled_caught


LINK_LOCAL = b"\xfe\x80" + bytes(14)
GLOBAL = b"\xfd" + bytes(15)
TAP_APPEARS = link(TAP, "tun", master=BRIDGE)


@pytest.mark.parametrize(
    "message",
    [
        address(TAP),
        route(TAP),
        link(TAP, "tun", message_kind=DEL_LINK),
        link(TAP, family=socket.AF_BRIDGE),
        link(TAP, family=socket.AF_BRIDGE, message_kind=DEL_LINK) + link(TAP),
        link(BRIDGE, "bridge"),
        address(BRIDGE, scope=253),
        route(BRIDGE, target=LINK_LOCAL),
        route(BRIDGE, table=255, target=GLOBAL),
        route(CARD, protocol=ROUTE_PROTOCOL),
    ],
)
def test_changes_that_an_attempt_causes_do_not_count(message: bytes) -> None:
    with HostChanges() as changes, FakeNetlink(changes).kernel as kernel:
        kernel.send(TAP_APPEARS)
        assert not changes._drain()
        kernel.send(message)
        assert not changes._drain()


@pytest.mark.parametrize(
    "message",
    [
        link(CARD),
        address(CARD, scope=253),
        address(BRIDGE),
        route(CARD),
        route(BRIDGE, target=GLOBAL),
        link(71_000, "tun", type_=NONE),
        link(71_001, "bridge"),
        address(TAP) + address(CARD),
        message(99, b""),
        message(NEW_LINK, b"short"),
    ],
)
def test_other_changes_count(message: bytes) -> None:
    with HostChanges() as changes, FakeNetlink(changes).kernel as kernel:
        kernel.send(TAP_APPEARS)
        assert not changes._drain()
        kernel.send(message)
        assert changes._drain()


def test_tap_that_was_there_before_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_changes, "_is_tap", TAP.__eq__)
    with HostChanges() as changes, FakeNetlink(changes).kernel as kernel:
        kernel.send(address(TAP))
        assert not changes._drain()


def test_changes_of_taps_count_on_request() -> None:
    with HostChanges(taps=True) as changes, FakeNetlink(changes).kernel as kernel:
        own_route = route(CARD, protocol=ROUTE_PROTOCOL)
        for message in (TAP_APPEARS, address(TAP), route(TAP), own_route):
            kernel.send(message)
            assert changes._drain()


def test_deleted_interfaces_are_forgotten() -> None:
    with HostChanges() as changes, FakeNetlink(changes).kernel as kernel:
        kernel.send(TAP_APPEARS + link(CARD) + link(BRIDGE))
        for index in (TAP, CARD, BRIDGE):
            kernel.send(link(index, message_kind=DEL_LINK))
        changes.clear()
        assert not changes._taps | changes._others | changes._bridges


def test_flood_of_messages_does_not_hold_the_program() -> None:
    class Flood:
        reads = 0

        def recv(self, _size: int) -> bytes:
            self.reads += 1
            assert self.reads <= 10_000
            return address(TAP)

        def close(self) -> None:
            pass

    with HostChanges() as changes:
        changes.close()
        changes._socket = flood = Flood()  # type: ignore[assignment]  # a part of a socket
        changes.clear()
        assert flood.reads == host_changes.READS_MAX


async def test_suspension_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with HostChanges() as changes:
        monkeypatch.setattr(host_changes, "suspended_s", lambda: 1e9)
        assert await changes.wait() == "this host was suspended"


async def test_stop_of_the_process_is_noticed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    # The virtual clock reaches the next tick at once; the other clock went on for a minute.
    clock = iter(range(0, 10_000, 60))
    with HostChanges() as changes:
        changes.close()
        monkeypatch.setattr("vknet.link.host_changes.time.monotonic", lambda: next(clock))
        assert await changes.wait() == "vknet was stopped and resumed"


async def test_host_without_netlink_is_no_error(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr("vknet.link.host_changes.socket.socket", refuse)
    with HostChanges() as changes:
        with trio.move_on_after(3600) as scope:
            await changes.wait()
        assert scope.cancelled_caught
