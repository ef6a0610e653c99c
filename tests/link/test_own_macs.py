"""Own MAC addresses on the far side: clones and loops are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vknet.endpoints.memory import memory_endpoint_pair
from vknet.link.own_macs import OwnMacWatch
from vknet.packet.uniform_batch import UniformBatch
from vknet.packet.virtio import VNET_HEADER_SIZE, OffloadFrame
from vknet.wire.hello import Hello

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.virtio import AnyFrame

OWN = bytes.fromhex("020000000001")
OTHER = bytes.fromhex("020000000002")


def a_watch(macs: dict[bytes, str]) -> OwnMacWatch:
    endpoint, _ = memory_endpoint_pair()
    endpoint.macs = macs
    return OwnMacWatch(endpoint, "home")


def a_hello(*macs: bytes) -> Hello:
    return Hello("vknet", "tap0", 65664, 1500, False, 15.0, macs=frozenset(macs))


def a_frame(source: bytes) -> bytes:
    return bytes([255] * 6) + source + bytes(48)


def test_same_address_on_both_sides_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = a_watch({OWN: "br0"})
    watch.on_hello(a_hello(OTHER, OWN))
    watch.on_frames([a_frame(OWN)])
    (line,) = caplog.messages
    assert line.startswith(
        "br0 and an interface of home have the same MAC address 02:00:00:00:00:01"
    )
    assert "ip link set br0 address 02:" in line


def test_different_addresses_are_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    watch = a_watch({OWN: "br0"})
    watch.on_hello(a_hello(OTHER))
    watch.on_hello(a_hello())
    watch.on_frames([a_frame(OTHER), a_frame(OTHER)])
    assert caplog.messages == []


@pytest.mark.parametrize(
    "frames",
    [
        [a_frame(OWN)],
        [memoryview(a_frame(OWN))],
        [OffloadFrame(bytes(VNET_HEADER_SIZE) + a_frame(OWN))],
        UniformBatch([a_frame(OWN)] * 2, offload=False),
        UniformBatch([bytes(VNET_HEADER_SIZE) + a_frame(OWN)] * 2, offload=True),
    ],
)
def test_own_frame_that_returns_is_told_once(
    frames: Sequence[AnyFrame], caplog: pytest.LogCaptureFixture
) -> None:
    watch = a_watch({OWN: "br0"})
    watch.on_frames([a_frame(OTHER)])
    watch.on_frames(frames)
    watch.on_frames(frames)
    (line,) = caplog.messages
    assert "has the MAC address 02:00:00:00:00:01 of br0 here" in line
    assert "makes a loop" in line


def test_short_frame_has_no_address(caplog: pytest.LogCaptureFixture) -> None:
    watch = a_watch({OWN: "br0"})
    watch.on_frames([b"x"])
    assert caplog.messages == []
