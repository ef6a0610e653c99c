"""Changes of this host: what is noticed, and what is forgotten."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio
import trio.testing

from vknet.link import host_changes
from vknet.link.host_changes import HostChanges

if TYPE_CHECKING:
    import pytest
    from trio.testing import MockClock


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
                netlink.kernel.send(b"a message")
    assert seen == ["the network of this host changed"]


async def test_message_before_the_wait_counts_unless_it_is_cleared() -> None:
    with HostChanges() as changes:
        netlink = FakeNetlink(changes)
        with netlink.kernel:
            netlink.kernel.send(b"a message")
            netlink.kernel.send(b"another one")
            assert await changes.wait() == "the network of this host changed"
            netlink.kernel.send(b"a third one")
            changes.clear()
            with trio.move_on_after(0.01) as scope:
                await changes.wait()
            assert scope.cancelled_caught


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
