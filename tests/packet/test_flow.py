"""Which frames belong to one flow, and which do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.packets import (
    ARP,
    BROADCAST,
    CLIENT,
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    OTHER,
    TCP,
    UDP,
    arp,
    ethernet,
    extension,
    fragment,
    ipv4,
    ipv6,
    tag,
    udp,
)
from vknet.packet.ethernet import TAGS_MAX
from vknet.packet.flow import flow_of
from vknet.packet.ip import IPV6_EXTENSIONS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

HERE4, THERE4 = "198.18.0.1", "198.18.0.2"
HERE6 = "fd00::1"
WITH_PORTS = {"TCP": 6, "UDP": 17, "DCCP": 33, "ESP": 50, "SCTP": 132, "UDP-Lite": 136}


def v4(
    source_port: int = 1,
    destination_port: int = 2,
    protocol: int = TCP,
    *,
    more: bool = False,
    offset: int = 0,
    options: bytes = b"",
    version: int = 4,
) -> bytes:
    payload = udp(source_port, destination_port) + bytes(12)
    packet = ipv4(
        HERE4, protocol, payload, more=more, offset=offset, options=options, version=version
    )
    return ethernet(IPV4, packet)


def v6(source_port: int = 1, destination_port: int = 2, protocol: int = TCP) -> bytes:
    return ethernet(IPV6, ipv6(HERE6, protocol, udp(source_port, destination_port) + bytes(12)))


@pytest.mark.parametrize("make", [v4, v6])
@pytest.mark.parametrize("protocol", WITH_PORTS.values(), ids=WITH_PORTS)
def test_each_pair_of_ports_is_a_flow(
    make: Callable[[int, int, int], bytes], protocol: int
) -> None:
    flow = flow_of(make(1, 2, protocol))
    assert flow == flow_of(make(1, 2, protocol) + b"more")
    assert flow == flow_of(memoryview(make(1, 2, protocol)))
    assert len({flow, flow_of(make(1, 3, protocol)), flow_of(make(3, 2, protocol))}) == 3


def test_two_directions_are_two_flows() -> None:
    there = ethernet(IPV4, ipv4(HERE4, UDP, udp(1, 2), destination=THERE4))
    back = ethernet(IPV4, ipv4(THERE4, UDP, udp(2, 1), destination=HERE4))
    assert flow_of(there) != flow_of(back)


def test_each_protocol_is_a_flow() -> None:
    assert len({flow_of(v4(protocol=number)) for number in range(256)}) == 256
    assert flow_of(v4()) != flow_of(v6())


@pytest.mark.parametrize("kind", [8, 0])
def test_ping_has_a_flow_beside_the_download_between_the_same_hosts(kind: int) -> None:
    def echo(number: int) -> bytes:
        return ethernet(IPV4, ipv4(HERE4, ICMP, bytes([kind, 0, 0, 0, 0, 1, 0, number])))

    assert flow_of(echo(1)) == flow_of(echo(2)) != flow_of(v4())
    six = [ethernet(IPV6, ipv6(HERE6, ICMPV6, bytes([128, 0, 0, 0, 0, 1, 0, n]))) for n in (1, 2)]
    assert flow_of(six[0]) == flow_of(six[1]) != flow_of(v6())


@pytest.mark.parametrize(
    "tags",
    [tag(5), tag(5 | 7 << 13), tag(300, 0x88A8) + tag(5), tag(1) * TAGS_MAX],
    ids=["a VLAN", "with a priority", "stacked", "as many as are looked behind"],
)
@pytest.mark.parametrize("frame", [v4(), v6(), v4(protocol=ICMP)], ids=["IPv4", "IPv6", "ICMP"])
def test_vlan_tags_do_not_change_the_flow(frame: bytes, tags: bytes) -> None:
    assert flow_of(frame[:12] + tags + frame[12:]) == flow_of(frame)


def test_ports_behind_ipv4_options_are_found() -> None:
    assert flow_of(v4(options=bytes(12))) == flow_of(v4())
    assert flow_of(v4(5, 6, options=bytes(40))) == flow_of(v4(5, 6))


def test_fragments_of_a_datagram_are_one_flow_though_only_the_first_has_ports() -> None:
    first, next_, last = (v4(more=True), v4(7, 8, more=True, offset=185), v4(3, 4, offset=370))
    assert flow_of(first) == flow_of(next_) == flow_of(last) != flow_of(v4())

    def piece(offset: int, more: bool, payload: bytes) -> bytes:
        head = fragment(UDP, offset, more=more)
        return ethernet(IPV6, ipv6(HERE6, FRAGMENT, head + payload))

    flows = {flow_of(piece(0, True, udp(1, 2))), flow_of(piece(185, False, b"the rest of it"))}
    assert len(flows) == 1
    assert flows != {flow_of(v6(protocol=UDP))}


@pytest.mark.parametrize("units", [0, 2])
def test_ports_behind_ipv6_extension_headers_are_found(units: int) -> None:
    chain = extension(DESTINATION, units) + extension(TCP, units) + udp(1, 2) + bytes(12)
    assert flow_of(ethernet(IPV6, ipv6(HERE6, HOP_BY_HOP, chain))) == flow_of(v6())


def test_number_of_extension_headers_read_is_limited() -> None:
    def chain(headers: int, source_port: int) -> bytes:
        extensions = extension(DESTINATION) * (headers - 1) + extension(TCP)
        return ethernet(IPV6, ipv6(HERE6, DESTINATION, extensions + udp(source_port, 2)))

    assert flow_of(chain(IPV6_EXTENSIONS_MAX, 1)) != flow_of(chain(IPV6_EXTENSIONS_MAX, 3))
    assert flow_of(chain(IPV6_EXTENSIONS_MAX + 1, 1)) == flow_of(chain(IPV6_EXTENSIONS_MAX + 1, 3))


def test_flow_of_a_frame_without_ip_is_its_addresses_and_type() -> None:
    requests = [ethernet(ARP, arp(HERE4, target), destination=BROADCAST) for target in (1, 2)]
    assert flow_of(requests[0]) == flow_of(requests[1])
    others = [
        ethernet(ARP, arp(HERE4, 1)),
        ethernet(ARP, arp(HERE4, 1), destination=BROADCAST, source=OTHER),
        ethernet(0x88CC, bytes(46), destination=BROADCAST),
    ]
    assert len({flow_of(frame) for frame in [*others, requests[0]]}) == 4


def test_length_of_an_802_3_frame_is_not_part_of_its_flow() -> None:
    short, long = (ethernet(len(body), body) for body in (b"\x42\x42\x03", bytes(0x5FF)))
    assert flow_of(short) == flow_of(long)
    assert flow_of(ethernet(0x0600, bytes(46))) != flow_of(short)


def test_flow_of_a_truncated_or_malformed_ip_packet_is_its_addresses() -> None:
    plain = flow_of(ethernet(IPV4, b""))
    assert len(plain) == 14
    for frame in (v4()[:33], v4(version=5), ethernet(IPV4, b"\x44" + ipv4(HERE4)[1:])):
        assert flow_of(frame) == plain
    assert flow_of(v6()[:53]) == flow_of(ethernet(IPV6, ipv6(HERE6, version=4)))
    assert len(flow_of(v6()[:53])) == 14
    assert flow_of(ethernet(IPV4, ipv4(HERE4), source=OTHER)[:33]) != plain


@pytest.mark.parametrize("frame", [v4(), v6()], ids=["IPv4", "IPv6"])
def test_truncated_ports_are_ignored(frame: bytes) -> None:
    start = 34 if frame[12] == 8 else 54
    flows = {flow_of(frame[:size]) for size in range(start, start + 4)}
    assert len(flows) == 1
    assert flows != {flow_of(frame)}


def test_runts_share_a_flow() -> None:
    assert {flow_of((BROADCAST + CLIENT + b"\x08")[:size]) for size in range(14)} == {b""}
