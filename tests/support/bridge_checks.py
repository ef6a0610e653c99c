"""Check how a TAP joins bridges and stays in them; a program for a network namespace of its own.

Each check has a bridge ``br0`` of its own, with a port ``p0`` if it asks for one.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from vknet.endpoints import open_endpoint
from vknet.endpoints.isolated import CHILD_VARIABLE
from vknet.endpoints.tap import TapEndpoint
from vknet.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Check = Callable[[], Coroutine[Any, Any, None]]

CHECKS: list[Check] = []
LOGGED: list[str] = []


def check(function: Check) -> Check:
    """Add a function to `CHECKS`."""
    CHECKS.append(function)
    return function


class _Collect(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        LOGGED.append(record.getMessage())


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def shown(*command: str) -> Any:
    """Return the JSON that a command prints."""
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def link(name: str) -> dict[str, Any]:
    (found,) = shown("ip", "-j", "-d", "link", "show", name)
    assert isinstance(found, dict)
    return found


def said(text: str) -> bool:
    return any(text in line for line in LOGGED)


def add_bridge(options: str = "") -> None:
    ip(f"link add br0 type bridge {options}")
    ip("link set br0 up")


def add_port(mtu: int = 1500) -> None:
    ip(f"link add p0 mtu {mtu} type veth peer name e0 mtu {mtu}")
    ip("link set p0 up master br0")


async def open_tap(spec: str = "auto", bridge: str | None = "br0", **more: Any) -> TapEndpoint:
    endpoint = await open_endpoint(spec, bridge=bridge, **more)
    assert isinstance(endpoint, TapEndpoint)
    return endpoint


def mcast_router(tap: str) -> int:
    value: int = link(tap)["linkinfo"]["info_slave_data"]["multicast_router"]
    return value


# --- what joining does ----------------------------------------------------------------------------


@check
async def missing_bridge_is_created_and_named() -> None:
    async with await open_tap(bridge="br0") as tap:
        assert said("created the bridge br0, which did not exist")
        assert tap.bridge == "br0"
        assert not tap.mtu_fixed


@check
async def existing_bridge_is_not_named() -> None:
    add_bridge()
    async with await open_tap():
        assert LOGGED == []


@check
async def tap_takes_the_mtu_of_a_jumbo_bridge() -> None:
    add_bridge()
    add_port(9000)
    assert link("br0")["mtu"] == 9000
    async with await open_tap() as tap:
        assert (tap.mtu, tap.mtu_fixed) == (9000, True)
        assert link("br0")["mtu"] == 9000
        assert not await tap.set_mtu(1500), "the peer does not lower the bridge's MTU"
        assert await tap.set_mtu(9100), "a higher MTU does no harm"
        assert link("br0")["mtu"] == 9000
        assert LOGGED == []


@check
async def tap_takes_a_low_mtu_of_a_bridge() -> None:
    add_bridge()
    add_port(1400)
    async with await open_tap() as tap:
        assert tap.mtu == 1400


@check
async def mtu_of_a_bridge_is_cut_to_what_a_tap_can_have() -> None:
    add_bridge()
    ip("link set br0 mtu 65535")
    async with await open_tap() as tap:
        assert tap.mtu == 65521
        assert link("br0")["mtu"] == 65535


@check
async def bridge_that_falls_to_the_mtu_of_the_user_is_named() -> None:
    add_bridge()
    add_port(9000)
    async with await open_tap(mtu=1500) as tap:
        assert tap.mtu == 1500
        assert said(f"the MTU of the bridge br0 fell from 9000 to 1500, that of {tap.name}")


@check
async def bridge_that_falls_to_the_mtu_of_an_existing_tap_is_named() -> None:
    add_bridge()
    add_port(9000)
    ip("tuntap add dev tap7 mode tap")
    try:
        async with await open_tap("tap7") as tap:
            assert tap.mtu == 1500
            assert said("to keep it: --mtu 9000, or ip link set tap7 mtu 9000")
    finally:
        ip("link del tap7")


@check
async def bridge_of_a_new_tap_alone_follows_the_peer() -> None:
    add_bridge()
    async with await open_tap() as tap:
        assert not tap.mtu_fixed
        assert await tap.set_mtu(1400)


@check
async def spanning_tree_is_named_with_its_seconds() -> None:
    add_bridge("stp_state 1 forward_delay 400")
    async with await open_tap() as tap:
        line = f"the bridge br0 runs STP, so it forwards nothing through {tap.name} for the first 8"
        assert [f"{line} s"] == LOGGED


# --- multicast ------------------------------------------------------------------------------------


@check
async def multicast_goes_through_a_new_port_until_the_next_query() -> None:
    add_bridge()
    async with await open_tap() as tap:
        assert mcast_router(tap.name) == 3
        (mdb,) = shown("bridge", "-j", "-d", "mdb", "show")
        ports = {port["port"] for port in mdb["router"]["br0"]}
        assert tap.name in ports


@check
async def multicast_setting_of_the_user_is_kept() -> None:
    add_bridge()
    for setting in (0, 2):
        ip("tuntap add dev tap7 mode tap")
        ip("link set tap7 up master br0")
        ip(f"link set tap7 type bridge_slave mcast_router {setting}")
        async with await open_tap("tap7"):
            assert mcast_router("tap7") == setting
        ip("link del tap7")


@check
async def port_of_an_existing_tap_gets_multicast_again() -> None:
    # Its listeners were forgotten when its last program closed it and it lost its carrier.
    add_bridge()
    ip("tuntap add dev tap7 mode tap")
    ip("link set tap7 up master br0")
    try:
        async with await open_tap("tap7"):
            assert mcast_router("tap7") == 3
    finally:
        ip("link del tap7")


@check
async def port_that_the_user_made_gets_multicast_and_is_not_kept() -> None:
    add_bridge("stp_state 1 forward_delay 400")
    ip("tuntap add dev tap7 mode tap")
    ip("link set tap7 up master br0")
    try:
        async with await open_tap("tap7", None) as tap:
            assert mcast_router("tap7") == 3
            assert said("the bridge br0 runs STP")
            assert set(tap.macs.values()) == {"br0"}
            ip("link set tap7 nomaster")
            await maintain(tap)
            assert "master" not in link("tap7")
            ip("link set tap7 master br0")
            await maintain(tap)
            assert mcast_router("tap7") == 3
    finally:
        ip("link del tap7")


@check
async def new_stations_get_multicast_again() -> None:
    add_bridge()
    async with await open_tap() as tap:
        await tap.maintain()
        ip(f"link set {tap.name} type bridge_slave mcast_router 1")
        tap.on_new_stations()
        await tap.maintain()
        assert mcast_router(tap.name) == 1, "it was asked for just now"
        await trio.sleep(31)
        await tap.maintain()
        assert mcast_router(tap.name) == 1, "nothing has changed"
        tap.on_new_stations()
        await tap.maintain()
        assert mcast_router(tap.name) == 3


# --- names ----------------------------------------------------------------------------------------


@check
async def alternative_names_are_names() -> None:
    add_bridge()
    for name in ("short-bridge", "a-bridge-with-a-very-long-alternative-name"):
        ip(f"link property add dev br0 altname {name}")
        async with await open_tap(bridge=name) as tap:
            assert tap.bridge == "br0"
            assert link(tap.name)["master"] == "br0"
    ip("tuntap add dev tap7 mode tap")
    try:
        for name in ("short-tap", "a-tap-with-a-very-long-alternative-name"):
            ip(f"link property add dev tap7 altname {name}")
            async with await open_tap(f"tap:{name}", None) as tap:
                assert tap.name == "tap7"
    finally:
        ip("link del tap7")
    assert LOGGED == []


@check
async def long_name_that_no_interface_has_is_explained() -> None:
    name = "a-very-long-name-that-no-interface-has"
    for spec, bridge, what in (("auto", name, "bridge"), (f"tap:{name}", None, "TAP")):
        with pytest.raises(SetupError) as caught:
            await open_tap(spec, bridge)
        assert f"no interface has the name or alternative name {name}" in str(caught.value)
        assert what in str(caught.value)


@check
async def alternative_name_of_another_interface_is_explained() -> None:
    add_bridge()
    ip("link property add dev br0 altname office")
    with pytest.raises(SetupError) as caught:
        await open_tap("tap:office", None)
    assert "br0 is an interface, but not a TAP" in str(caught.value)


@check
async def tap_with_several_queues_is_used() -> None:
    ip("tuntap add dev tap7 mode tap user 0 multi_queue")
    try:
        for spec in ("tap7", "auto"):
            async with await open_tap(spec, None) as tap:
                assert tap.name == "tap7"
                # The kernel would share the frames between the two.
                with pytest.raises(SetupError) as caught:
                    await open_tap("tap7", None)
                assert "tap7 is in use by another program" in str(caught.value)
                async with await open_tap("auto", None) as other:
                    assert other.name == "tap0"
    finally:
        ip("link del tap7")


# --- what other programs do -----------------------------------------------------------------------


async def maintain(tap: TapEndpoint, times: int = 2) -> None:
    for _ in range(times):
        await tap.maintain()
        await trio.sleep(1)


@check
async def tap_that_was_taken_out_is_put_back() -> None:
    add_bridge()
    add_port(9000)
    async with await open_tap() as tap:
        ip(f"link set {tap.name} nomaster")
        await maintain(tap)
        assert link(tap.name)["master"] == "br0"
        assert mcast_router(tap.name) == 3
        assert link("br0")["mtu"] == 9000
        advice = f"if a network manager did it, tell it to leave {tap.name} alone"
        assert [
            f"{tap.name} was taken out of the bridge br0; {advice}",
            f"put {tap.name} back in the bridge br0",
        ] == LOGGED


@check
async def tap_that_is_put_back_by_another_program_is_left_alone() -> None:
    add_bridge()
    async with await open_tap() as tap:
        ip(f"link set {tap.name} nomaster")
        await tap.maintain()
        ip(f"link set {tap.name} master br0")
        await maintain(tap)
        assert not said("back in the bridge")


@check
async def tap_that_was_moved_stays_there() -> None:
    add_bridge()
    ip("link add br1 type bridge")
    try:
        async with await open_tap() as tap:
            ip(f"link set {tap.name} master br1")
            await maintain(tap)
            assert [f"{tap.name} was moved from br0 to br1, and stays there"] == LOGGED
            assert (tap.bridge, link(tap.name)["master"]) == ("br1", "br1")
            assert mcast_router(tap.name) == 3
            ip(f"link set {tap.name} nomaster")
            await maintain(tap)
            assert link(tap.name)["master"] == "br1"
    finally:
        ip("link del br1")


@check
async def renamed_bridge_is_followed() -> None:
    add_bridge()
    async with await open_tap() as tap:
        ip("link set br0 down")
        ip("link set br0 name lan0")
        try:
            await maintain(tap)
            assert tap.bridge == "lan0"
            ip("link add br0 type bridge")
            await maintain(tap)
            ip(f"link set {tap.name} nomaster")
            await maintain(tap)
            assert link(tap.name)["master"] == "lan0"
        finally:
            ip("link del lan0")
        assert LOGGED[0] == f"the bridge br0 of {tap.name} is now called lan0"
        assert not said("was deleted")


@check
async def deleted_bridge_is_created_again() -> None:
    add_bridge()
    async with await open_tap() as tap:
        before = tap.bridge_index
        ip("link del br0")
        await tap.maintain()
        assert LOGGED == ["the bridge br0 was deleted"]
        await tap.maintain()
        assert link(tap.name)["master"] == "br0"
        assert tap.bridge_index != before


@check
async def addresses_of_the_tap_and_its_bridge_are_known() -> None:
    add_bridge()
    async with await open_tap() as tap:
        assert set(tap.macs.values()) == {"br0"}, "a bridge takes the address of its only port"
        ip("link set br0 address 02:00:00:00:00:77")
        await tap.maintain()
        assert tap.macs[bytes.fromhex("020000000077")] == "br0"
        assert sorted(tap.macs.values()) == ["br0", tap.name]


def main() -> None:
    # Everything in one process: the checks would spend most of their time starting others.
    os.environ[CHILD_VARIABLE] = "1"
    logging.getLogger("vknet").addHandler(_Collect())
    logging.getLogger("vknet").setLevel(logging.INFO)
    for function in CHECKS:
        LOGGED.clear()
        try:
            # The clock is virtual: a check may let a minute pass.
            trio.run(function, clock=MockClock(autojump_threshold=0.05))
        finally:
            for name in ("p0", "br0"):
                with suppress(subprocess.CalledProcessError):
                    subprocess.run(["ip", "link", "del", name], check=True, capture_output=True)
        print("passed", function.__name__, flush=True)


if __name__ == "__main__":
    main()
