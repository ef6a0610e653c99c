"""Secure mode in the switch: what is learned outside, and what a client may then not do."""

from __future__ import annotations

from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing

from tests.support.links import running
from tests.support.packets import (
    ARP,
    BROADCAST,
    CLIENT,
    EXPERIMENTAL,
    FRAGMENT,
    HOP_BY_HOP,
    ICMPV6,
    IPV4,
    IPV6,
    OTHER,
    TAP,
    UDP,
    add_tags,
    arp,
    ethernet,
    extension,
    fragment,
    icmpv6,
    ipv4,
    ipv6,
    neighbour,
    source_mac,
    station_mac,
    tag,
    target_mac,
    udp,
)
from vknet import MemoryEndpoint, memory_endpoint_pair
from vknet.counters import DropReason
from vknet.switch.echoes import ECHO_S
from vknet.switch.filter import SourceFilter
from vknet.switch.guard import CONTESTED_HOLD_S, CONTESTED_PROOF_S, Guard
from vknet.switch.routing import BatchRouter
from vknet.switch.sightings import HOLD_S
from vknet.switch.switch import Port, Switch
from vknet.switch.table import MacTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from vknet.switch.addresses import Address

PREFIXES: Final = [ip_network("198.18.4.0/22"), ip_network("fd00:4::/64")]
GATEWAY: Final = station_mac(0x77)
VICTIM: Final = station_mac(0x99)
GATEWAY_IP: Final = "198.18.4.3"
GATEWAY_IP6: Final = "fe80::77"


def from_gateway(ethertype: int, payload: bytes, tags: bytes = b"") -> bytes:
    return ethernet(ethertype, payload, source=GATEWAY, destination=BROADCAST, tags=tags)


def nd(
    source: str, message: bytes, *, mac: bytes = CLIENT, hop_limit: int = 255, head: bytes = b""
) -> bytes:
    """Return a frame with an ICMPv6 message, behind an extension header if there is a `head`."""
    kind = head[0] if head else ICMPV6
    packet = ipv6(source, kind, head[1:] + message, destination="ff02::1", hop_limit=hop_limit)
    return ethernet(IPV6, packet, source=mac, destination=BROADCAST)


ARP_REQUEST: Final = from_gateway(ARP, arp(GATEWAY_IP, "198.18.4.2", sender_mac=GATEWAY))
ROUTER_ADVERTISEMENT: Final = nd(GATEWAY_IP6, icmpv6(134, bytes(12)), mac=GATEWAY)

# What a client tries with the addresses of the gateway, and why it is dropped.
CLAIMS: Final = {
    "an ARP reply": ethernet(ARP, arp(GATEWAY_IP, operation=2)),
    "an ARP request": ethernet(ARP, arp(GATEWAY_IP), destination=BROADCAST),
    "UDP": ethernet(IPV4, ipv4(GATEWAY_IP, UDP, udp(9, 9))),
}
CLAIMS_V6: Final = {
    "a neighbour advertisement": nd(GATEWAY_IP6, neighbour(136, GATEWAY_IP6, target_mac())),
    "an advertisement from another source": nd("fe80::5", neighbour(136, GATEWAY_IP6)),
    "a neighbour solicitation": nd(GATEWAY_IP6, neighbour(135, "fe80::2", source_mac())),
    "a router solicitation": nd(GATEWAY_IP6, icmpv6(133, bytes(4) + source_mac())),
    "UDP": ethernet(IPV6, ipv6(GATEWAY_IP6, UDP, udp(9, 9))),
}


def guard_with(
    *,
    gateways: tuple[Address | bytes, ...] = (),
    roaming: tuple[Address | bytes, ...] = (),
) -> Guard:
    return Guard(
        SourceFilter(
            PREFIXES,
            TAP,
            gateways=[one for one in gateways if not isinstance(one, bytes)],
            roaming=[one for one in roaming if not isinstance(one, bytes)],
        ),
        gateways=[one for one in gateways if isinstance(one, bytes)],
        roaming=[one for one in roaming if isinstance(one, bytes)],
    )


# --- IP addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [b"", tag(5), tag(5, 0x88A8) + tag(6)], ids=["", "802.1Q", "ad"])
@pytest.mark.parametrize("operation", [1, 2])
def test_sender_of_arp_outside_is_no_client(operation: int, tags: bytes) -> None:
    guard = guard_with()
    for frame in CLAIMS.values():
        assert guard.check(frame) is None
    message = arp(GATEWAY_IP, operation=operation, sender_mac=GATEWAY)
    guard.learn(from_gateway(ARP, message, tags), 0)
    for frame in CLAIMS.values():
        assert guard.check(frame) == DropReason.OUTSIDE_ADDRESS
        assert guard.check(add_tags(frame, tag(9))) == DropReason.OUTSIDE_ADDRESS
    probe = ethernet(ARP, arp("0.0.0.0", GATEWAY_IP), destination=BROADCAST)
    assert guard.check(probe) is None


@pytest.mark.parametrize(
    "frame",
    [
        ROUTER_ADVERTISEMENT,
        nd(GATEWAY_IP6, icmpv6(133), mac=GATEWAY),
        nd(GATEWAY_IP6, neighbour(135, "fe80::2"), mac=GATEWAY),
        nd("fd00:4::77", neighbour(136, GATEWAY_IP6), mac=GATEWAY),
        nd(GATEWAY_IP6, icmpv6(137, bytes(36)), mac=GATEWAY),
        nd(GATEWAY_IP6, icmpv6(130, bytes(20)), mac=GATEWAY, hop_limit=1),
        nd(GATEWAY_IP6, icmpv6(143, bytes(20)), mac=GATEWAY, hop_limit=1),
        nd(GATEWAY_IP6, icmpv6(134), mac=GATEWAY, head=bytes([HOP_BY_HOP]) + extension(ICMPV6)),
        add_tags(ROUTER_ADVERTISEMENT, tag(5)),
        ROUTER_ADVERTISEMENT + bytes(20),
    ],
)
def test_sender_of_neighbour_discovery_outside_is_no_client(frame: bytes) -> None:
    guard = guard_with()
    for claim in CLAIMS_V6.values():
        assert guard.check(claim) is None
    guard.learn(frame, 0)
    for claim in CLAIMS_V6.values():
        assert guard.check(claim) == DropReason.OUTSIDE_ADDRESS
    assert guard.check(nd("::", neighbour(135, GATEWAY_IP6))) is None


@pytest.mark.parametrize(
    "frame",
    [
        nd(GATEWAY_IP6, icmpv6(134), mac=GATEWAY, hop_limit=254),
        nd(GATEWAY_IP6, icmpv6(128), mac=GATEWAY),
        nd("::", neighbour(135, GATEWAY_IP6), mac=GATEWAY),
        nd(
            GATEWAY_IP6,
            icmpv6(134),
            mac=GATEWAY,
            head=bytes([FRAGMENT]) + fragment(ICMPV6, more=True),
        ),
        ROUTER_ADVERTISEMENT[:57],
        ethernet(IPV6, ipv6(GATEWAY_IP6, HOP_BY_HOP, b"\x3a\x09" + bytes(6))),
        ethernet(IPV6, ipv6(GATEWAY_IP6, HOP_BY_HOP, extension(ICMPV6))),
        from_gateway(ARP, arp("0.0.0.0", GATEWAY_IP, sender_mac=GATEWAY)),
        from_gateway(ARP, arp(GATEWAY_IP, kind=(6, 0x0800, 6, 4))),
        from_gateway(ARP, arp(GATEWAY_IP)[:27]),
        from_gateway(ARP, arp("203.0.113.3")),
        from_gateway(IPV4, ipv4(GATEWAY_IP)),
        from_gateway(EXPERIMENTAL, arp(GATEWAY_IP)),
    ],
)
def test_other_frames_from_outside_say_nothing_about_ip_addresses(frame: bytes) -> None:
    guard = guard_with()
    guard.learn(frame, 0)
    assert len(guard.filter.ipv4.seen) + len(guard.filter.ipv6.seen) == 0
    assert guard.check(CLAIMS["UDP"]) is None
    assert guard.check(CLAIMS_V6["UDP"]) is None


def test_address_that_was_not_seen_outside_for_long_is_free_again() -> None:
    guard = guard_with()
    guard.learn(ARP_REQUEST, 0)
    guard.learn(ROUTER_ADVERTISEMENT, 0)
    guard.expire(HOLD_S - 1)
    assert guard.check(CLAIMS["UDP"]) == DropReason.OUTSIDE_ADDRESS
    assert guard.check(CLAIMS_V6["UDP"]) == DropReason.OUTSIDE_ADDRESS
    guard.expire(HOLD_S)
    assert guard.check(CLAIMS["UDP"]) is None
    assert guard.check(CLAIMS_V6["UDP"]) is None


def test_gateway_is_no_client_before_it_was_seen() -> None:
    guard = guard_with(gateways=(ip_address(GATEWAY_IP), ip_address(GATEWAY_IP6), GATEWAY))
    for frame in (*CLAIMS.values(), *CLAIMS_V6.values()):
        assert guard.check(frame) == DropReason.OUTSIDE_ADDRESS
    assert guard.refuse_source(GATEWAY) == DropReason.OUTSIDE_MAC
    assert guard.refuse_source(CLIENT) is None


def test_roaming_address_stays_a_clients_although_it_was_seen_outside() -> None:
    guard = guard_with(roaming=(ip_address(GATEWAY_IP), ip_address(GATEWAY_IP6), GATEWAY))
    for now in (0, 10):
        guard.learn(ARP_REQUEST, now)
        guard.learn(ROUTER_ADVERTISEMENT, now)
        guard.see_source(GATEWAY, now, is_clients=True)
        guard.see_source(GATEWAY, now, is_clients=False)
    for frame in (*CLAIMS.values(), *CLAIMS_V6.values()):
        assert guard.check(frame) is None
    assert guard.refuse_source(GATEWAY) is None


def test_address_of_the_host_is_free_for_a_client_only_after_it_was_replaced() -> None:
    guard = guard_with()
    guard.filter.set_host(TAP, [ip_address("198.18.4.1")])
    frame = ethernet(IPV4, ipv4("198.18.4.1"))
    assert guard.check(frame) == DropReason.IPV4_SOURCE
    assert guard.check(ethernet(IPV4, ipv4("198.18.4.9"))) is None
    guard.filter.set_host(OTHER, [ip_address("198.18.4.9")])
    assert guard.check(frame) is None
    assert guard.check(ethernet(IPV4, ipv4("198.18.4.9"))) == DropReason.IPV4_SOURCE
    assert guard.check(ethernet(IPV4, ipv4("198.18.4.1"), source=OTHER)) == DropReason.TAP_MAC


def test_clients_with_many_addresses_do_not_make_the_memory_grow() -> None:
    guard = guard_with()
    first = int(ip_address("fd00:4::1"))
    for number in range(20_000):
        assert guard.filter.ipv6.refuse(first + number, DropReason.IPV6_SOURCE) is None
    assert len(guard.filter.ipv6.usable) < 10_000
    assert len(guard.filter.ipv6.seen) == 0


# --- MAC addresses, in a switch -------------------------------------------------------------------


class Secured:
    """A switch with a guard, and the far ends of its ports: the uplink and two clients."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.switch = Switch(guard=guard)
        self.switch.reserve([TAP])
        self.outside, self.tap = memory_endpoint_pair(("outside", "tap0"), capacity=30_000)
        self.client, self.inner = memory_endpoint_pair(("client", "client1"), capacity=30_000)
        self.other, self.inner_other = memory_endpoint_pair(("other", "client2"), capacity=30_000)

    async def sends(self, plug: MemoryEndpoint, *frames: bytes) -> dict[str, list[bytes]]:
        """Send frames; return what comes to each far end that gets something."""
        await plug.send(frames)
        await trio.testing.wait_all_tasks_blocked()
        received = {}
        for end in (self.outside, self.client, self.other):
            got: list[bytes] = []
            while True:
                try:
                    got += map(bytes, end.receive_nowait())
                except trio.WouldBlock:
                    break
            if got:
                received[end.name] = got
        return received

    def dropped_in(self, name: str) -> dict[DropReason, int]:
        """Return the drops of frames that came in through a port."""
        (port,) = [port for port in self.switch.ports if port.name == name]
        return dict(port.counters.inbound.drops)

    def dropped_out(self) -> dict[DropReason, int]:
        """Return the drops of frames on their way to the uplink."""
        (port,) = [port for port in self.switch.ports if port.is_uplink]
        return dict(port.counters.outbound.drops)

    def holder(self, mac: bytes) -> str | None:
        """Return the name of the port of an address."""
        port = self.switch.table.lookup(0, mac, trio.current_time())
        return None if port is None else port.name


@asynccontextmanager
async def secured(guard: Guard | None = None) -> AsyncIterator[Secured]:
    made = Secured(guard_with() if guard is None else guard)
    async with running() as nursery:
        for endpoint in (made.tap, made.inner, made.inner_other):
            nursery.start_soon(lambda e: made.switch.serve(e, is_uplink=e is made.tap), endpoint)
            await trio.testing.wait_all_tasks_blocked()
        yield made


def from_client(payload: bytes = b"", *, source: bytes = CLIENT, to: bytes = BROADCAST) -> bytes:
    return ethernet(
        IPV4, ipv4("198.18.5.7", UDP, udp(9, 9, payload)), source=source, destination=to
    )


async def test_frame_with_the_mac_of_a_station_outside_is_dropped_and_teaches_nothing() -> None:
    async with secured() as lan:
        await lan.sends(lan.outside, ARP_REQUEST)
        assert await lan.sends(lan.client, from_client(source=GATEWAY)) == {}
        tagged = add_tags(from_client(source=GATEWAY), tag(5))
        to_a_client = from_client(source=GATEWAY, to=station_mac(5))
        assert await lan.sends(lan.client, tagged, to_a_client) == {}
        assert lan.dropped_in("client1") == {DropReason.OUTSIDE_MAC: 3}
        assert lan.holder(GATEWAY) == "tap0"
        assert await lan.sends(lan.other, to := from_client(to=GATEWAY)) == {"outside": [to]}


async def test_frame_that_the_filter_drops_teaches_nothing() -> None:
    async with secured() as lan:
        unknown = ethernet(EXPERIMENTAL, bytes(46), source=GATEWAY, destination=BROADCAST)
        # Other clients get it; the filter is for the uplink.
        assert await lan.sends(lan.client, unknown) == {"other": [unknown]}
        assert lan.dropped_out() == {DropReason.ETHERTYPE: 1}
        assert lan.holder(GATEWAY) is None
        flooded = from_client(source=OTHER, to=GATEWAY)
        assert await lan.sends(lan.other, flooded) == {"outside": [flooded], "client": [flooded]}


async def test_right_frame_teaches_also_behind_a_dropped_one_of_the_same_batch() -> None:
    async with secured() as lan:
        dropped = ethernet(IPV4, ipv4("203.0.113.1"), destination=BROADCAST)
        right = from_client()
        received = await lan.sends(lan.client, dropped, right, dropped, right)
        assert received["outside"] == [right] * 2
        # A port keeps the order within a flow only.
        assert sorted(received["other"]) == sorted([dropped, right] * 2)
        assert lan.dropped_out() == {DropReason.IPV4_SOURCE: 2}
        assert lan.holder(CLIENT) == "client1"


async def test_frame_between_clients_teaches_although_it_could_not_leave() -> None:
    async with secured() as lan:
        await lan.sends(lan.other, from_client(source=OTHER))
        frame = ethernet(EXPERIMENTAL, bytes(46), destination=OTHER)
        assert await lan.sends(lan.client, frame) == {"other": [frame]}
        assert lan.holder(CLIENT) == "client1"


async def test_flood_of_a_client_evicts_nothing_that_was_seen_outside() -> None:
    async with secured() as lan:
        await lan.sends(lan.outside, ARP_REQUEST)
        for number in range(20_000 // 250):
            flood = [from_client(source=station_mac(1000 + number * 250 + n)) for n in range(250)]
            await lan.sends(lan.client, *flood)
        assert len(lan.guard.macs) == 1
        assert await lan.sends(lan.client, from_client(source=GATEWAY)) == {}


async def test_flood_from_outside_evicts_no_station_and_later_ones_are_learned(
    autojump_clock: MockClock,
) -> None:
    async with secured() as lan:
        await lan.sends(lan.outside, ARP_REQUEST)
        for number in range(20_000 // 250):
            flood = [
                ethernet(EXPERIMENTAL, bytes(46), source=station_mac(1000 + number * 250 + n))
                for n in range(250)
            ]
            await lan.sends(lan.outside, *flood)
        assert len(lan.guard.macs) < 8192
        assert await lan.sends(lan.client, from_client(source=GATEWAY)) == {}
        await trio.sleep(1)
        await lan.sends(lan.outside, from_client(source=VICTIM))
        assert await lan.sends(lan.client, from_client(source=VICTIM)) == {}
        assert lan.dropped_in("client1") == {DropReason.OUTSIDE_MAC: 2}


async def test_client_that_used_the_mac_of_a_gateway_first_loses_it(
    autojump_clock: MockClock,
) -> None:
    async with secured() as lan:
        await lan.sends(lan.client, from_client(source=GATEWAY))
        assert lan.holder(GATEWAY) == "client1"
        await lan.sends(lan.outside, ARP_REQUEST)
        assert lan.holder(GATEWAY) == "tap0"
        assert await lan.sends(lan.client, from_client(source=GATEWAY)) == {}
        assert lan.guard.contested == 1
        await trio.sleep(CONTESTED_PROOF_S)
        await lan.sends(lan.outside, ARP_REQUEST)
        assert lan.guard.contested == 0
        await trio.sleep(HOLD_S - 1)
        lan.guard.expire(trio.current_time())
        assert await lan.sends(lan.client, from_client(source=GATEWAY)) == {}


async def test_one_frame_from_outside_with_the_mac_of_a_client_stops_it_for_a_short_time(
    autojump_clock: MockClock,
) -> None:
    async with secured() as lan:
        await lan.sends(lan.client, from_client())
        await lan.sends(lan.outside, *[from_client(b"forged", to=OTHER)] * 3)
        assert await lan.sends(lan.client, from_client()) == {}
        await trio.sleep(CONTESTED_HOLD_S)
        lan.guard.expire(trio.current_time())
        assert "outside" in await lan.sends(lan.client, from_client())


async def test_echo_of_a_clients_frame_does_not_stop_the_client(autojump_clock: MockClock) -> None:
    async with secured() as lan:
        announcement = ethernet(ARP, arp("198.18.5.7", "198.18.5.7"), destination=BROADCAST)
        for frame in (announcement, from_client(), nd("fe80::5", neighbour(136, "fe80::5"))):
            assert "outside" in await lan.sends(lan.client, frame)
            # A network card has padded it.
            returned = await lan.sends(lan.outside, frame + bytes(18))
            assert returned == {"client": [frame + bytes(18)], "other": [frame + bytes(18)]}
            assert lan.holder(CLIENT) == "client1"
        assert len(lan.guard.macs) + lan.guard.contested == 0
        assert len(lan.guard.filter.ipv4.seen) + len(lan.guard.filter.ipv6.seen) == 0
        await trio.sleep(10)
        lan.guard.expire(trio.current_time())
        await lan.sends(lan.outside, announcement)
        assert lan.guard.contested == 1


async def test_flood_of_a_client_does_not_evict_the_frames_of_another_one() -> None:
    async with secured() as lan:
        mine = from_client(b"mine")
        await lan.sends(lan.client, mine)
        await lan.sends(
            lan.other, *[from_client(source=station_mac(1000 + number)) for number in range(1000)]
        )
        await lan.sends(lan.outside, mine)
        assert lan.guard.contested == 0
        assert lan.holder(CLIENT) == "client1"


async def test_client_that_announces_what_a_gateway_will_ask_hides_it_for_a_moment_only(
    autojump_clock: MockClock,
) -> None:
    async with secured() as lan:
        questions = [
            from_gateway(ARP, arp(GATEWAY_IP, f"198.18.4.{host}", sender_mac=GATEWAY))
            for host in range(1, 41)
        ]
        await lan.sends(lan.client, *questions)
        await trio.sleep(ECHO_S)
        await lan.sends(lan.client, *questions)
        assert lan.holder(GATEWAY) == "client1"
        await lan.sends(lan.outside, questions[7])
        assert lan.holder(GATEWAY) == "tap0"
        assert lan.guard.check(CLAIMS["UDP"]) == DropReason.OUTSIDE_ADDRESS


async def test_port_that_is_gone_is_forgotten() -> None:
    guard = guard_with()
    client = Port("client1", memory_endpoint_pair()[1])
    guard.note_sent(client, from_client(), 0)
    assert guard.is_echo(client, from_client(), 0)
    guard.forget(client)
    guard.forget(client)
    assert not guard.is_echo(client, from_client(), 0)


async def test_station_that_moves_from_a_client_to_the_outside_is_followed() -> None:
    async with secured() as lan:
        await lan.sends(lan.client, from_client())
        moved = from_client(b"from its new place")
        assert await lan.sends(lan.outside, moved) == {"client": [moved], "other": [moved]}
        assert lan.holder(CLIENT) == "tap0"
        answer = from_client(source=OTHER, to=CLIENT)
        assert await lan.sends(lan.other, answer) == {"outside": [answer]}


async def test_mac_of_the_host_is_no_clients_while_the_uplink_is_gone() -> None:
    guard = guard_with()
    switch = Switch(guard=guard)
    switch.reserve([TAP])
    plug, inner = memory_endpoint_pair(("client", "client1"))
    other, inner_other = memory_endpoint_pair(("other", "client2"))
    async with running() as nursery:
        nursery.start_soon(switch.serve, inner)
        nursery.start_soon(switch.serve, inner_other)
        await trio.testing.wait_all_tasks_blocked()
        await plug.send([from_client(source=TAP)])
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            other.receive_nowait()
        assert switch.table.forgeries == 1


async def test_old_mac_of_the_host_is_held_and_the_new_one_reserved() -> None:
    async with secured() as lan:
        lan.guard.see_source(TAP, trio.current_time(), is_clients=False)
        lan.switch.reserve([VICTIM])
        assert await lan.sends(lan.client, from_client(source=TAP)) == {}
        assert await lan.sends(lan.client, from_client(source=VICTIM)) == {}
        assert lan.dropped_in("client1") == {
            DropReason.OUTSIDE_MAC: 1,
            DropReason.SOURCE_NOT_ALLOWED: 1,
        }
        frame = from_client(to=VICTIM)
        assert await lan.sends(lan.client, frame) == {"outside": [frame]}


async def test_every_frame_of_a_batch_from_outside_is_learned_from() -> None:
    async with secured() as lan:
        requests = [
            from_gateway(ARP, arp(f"198.18.4.{n}", sender_mac=GATEWAY)) for n in range(20, 30)
        ]
        await lan.sends(lan.outside, *requests)
        for n in range(20, 30):
            reply = ethernet(ARP, arp(f"198.18.4.{n}", operation=2))
            assert lan.guard.check(reply) == DropReason.OUTSIDE_ADDRESS


# --- an uplink that comes and goes ----------------------------------------------------------------


@pytest.mark.parametrize("has_uplink", [False, True])
async def test_uplink_that_is_added_while_a_batch_is_flooded_gets_nothing_unchecked(
    *, has_uplink: bool
) -> None:
    def port(name: str, *, is_uplink: bool = False) -> Port:
        return Port(name, memory_endpoint_pair(("far", name))[1], is_uplink)

    first, second, third, added = port("1"), port("2"), port("3"), port("tap", is_uplink=True)
    table: MacTable[Port] = MacTable()
    table.learn(0, OTHER, second, 0)
    old = port("old", is_uplink=True) if has_uplink else None
    ports = dict.fromkeys([one for one in (first, second, third, old) if one is not None])
    router = BatchRouter(table, guard_with(), first, old, 0)
    forbidden = ethernet(EXPERIMENTAL, bytes(46), destination=BROADCAST)
    for frame in (from_client(to=OTHER), from_client(), forbidden):
        router.first(frame)
    steps = router.shares(ports)
    reached = [next(steps)[0]]
    ports[added] = None
    reached += [other for other, _, _ in steps]
    assert reached == ([second, third] if old is None else [old, second, third])


async def test_unicast_to_an_uplink_that_was_not_there_before_is_not_sent_unchecked() -> None:
    ports = [
        Port(name, memory_endpoint_pair(("far", name))[1], name == "tap") for name in ["1", "tap"]
    ]
    table: MacTable[Port] = MacTable()
    table.pin([TAP], ports[1])
    router = BatchRouter(table, guard_with(), ports[0], None, 0)
    router.first(ethernet(EXPERIMENTAL, bytes(46), destination=TAP))
    assert list(router.shares(ports)) == []
