"""A TAP's place in a bridge, with a kernel that a test plays."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
import trio

from vknet.endpoints import bridge_port, joining
from vknet.endpoints.bridge_port import BridgePort
from vknet.endpoints.interface import Interface
from vknet.endpoints.joining import JoinedBridge, set_up_tap
from vknet.errors import SetupError

if TYPE_CHECKING:
    from trio.testing import MockClock

MAC = bytes.fromhex("020000000001")
BRIDGE = Interface(5, "br0", "bridge", 1500, MAC, is_up=True, master=None)
INSIDE = Interface(7, "tap0", "tun", 1500, MAC, is_up=True, master=5)
OUTSIDE = Interface(7, "tap0", "tun", 1500, MAC, is_up=True, master=None)
JOINED = JoinedBridge(BRIDGE, created=False, mtu_before=1500, has_own_mtu=False, silence_s=0)


class Kernel:
    """Counts how often the TAP is put back, or refuses it."""

    def __init__(self) -> None:
        self.put_back = 0
        self.refusal: str | None = None

    def set_up_tap(self, *args: object, **kwargs: object) -> tuple[Interface, JoinedBridge]:
        if self.refusal is not None:
            raise SetupError(self.refusal)
        self.put_back += 1
        return INSIDE, JOINED


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(bridge_port, "set_up_tap", kernel.set_up_tap)
    monkeypatch.setattr(bridge_port, "expect_listeners", lambda index: None)
    monkeypatch.setattr(bridge_port, "name_of", {5: "br0"}.get)
    return kernel


def a_port() -> BridgePort:
    return BridgePort(INSIDE, JOINED, keep=True, adopts_mtu=True)


async def test_fight_over_the_tap_becomes_rare(
    kernel: Kernel, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    port = a_port()
    for _ in range(3600):
        # Another program takes it out at once, each time.
        await port.maintain(OUTSIDE, None)
        await trio.sleep(1)
    assert 15 <= kernel.put_back <= 25
    assert len(caplog.records) <= 60


async def test_tap_is_put_back_at_once_after_a_calm_time(
    kernel: Kernel, autojump_clock: MockClock
) -> None:
    port = a_port()
    for _ in range(60):
        await port.maintain(OUTSIDE, None)
        await trio.sleep(1)
    before = kernel.put_back
    for _ in range(700):
        await port.maintain(INSIDE, BRIDGE)
        await trio.sleep(1)
    for _ in range(2):
        await port.maintain(OUTSIDE, None)
        await trio.sleep(1)
    assert kernel.put_back == before + 1


async def test_refusal_is_told_once(
    kernel: Kernel, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.refusal = "no permission to change interfaces; as root: ip link set tap0 master br0"
    port = a_port()
    for _ in range(600):
        await port.maintain(OUTSIDE, None)
        await trio.sleep(1)
    refused = [r for r in caplog.records if "cannot be put back" in r.getMessage()]
    assert len(refused) == 1
    assert refused[0].getMessage().endswith("ip link set tap0 master br0")


async def test_tap_in_another_kind_of_interface_is_no_longer_kept(
    kernel: Kernel, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bond = Interface(9, "bond0", "bond", 1500, MAC, is_up=True, master=None)
    port = a_port()
    await port.maintain(Interface(7, "tap0", "tun", 1500, MAC, is_up=True, master=9), bond)
    assert caplog.messages == ["tap0 was moved from br0 to bond0, and stays there"]
    assert (port.bridge, port.bridge_index) == (None, 9)
    for _ in range(5):
        await port.maintain(OUTSIDE, None)
        await trio.sleep(1)
    assert kernel.put_back == 0


async def test_tap_without_a_bridge_of_its_own_is_left_alone(
    kernel: Kernel, autojump_clock: MockClock
) -> None:
    port = BridgePort(INSIDE, JOINED, keep=False, adopts_mtu=False)
    for state, bridge in ((INSIDE, BRIDGE), (OUTSIDE, None), (OUTSIDE, None), (INSIDE, BRIDGE)):
        await port.maintain(state, bridge)
        await trio.sleep(1)
    assert kernel.put_back == 0
    assert port.bridge_index == 5


def test_open_vswitch_bridge_gets_its_own_command(monkeypatch: pytest.MonkeyPatch) -> None:
    ovs = Interface(5, "br0", "openvswitch", 1500, MAC, is_up=True, master=None)
    monkeypatch.setattr(joining, "open_netlink", nullcontext)
    monkeypatch.setattr(joining, "get_interface", lambda index: OUTSIDE)
    monkeypatch.setattr(joining, "find_interface", lambda name: ovs)
    with pytest.raises(SetupError, match=r"ovs-vsctl add-port br0 tap0$"):
        set_up_tap.__wrapped__(7, bridge="br0")  # type: ignore[attr-defined]  # functools.wraps
