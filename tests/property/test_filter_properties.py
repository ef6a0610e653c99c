"""The filter of secure mode under any bytes, any prefixes, and changed frames."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.support.altered_frames import changed, headed
from tests.support.filter_cases import LEGITIMATE, PREFIXES, SPOOFED, TAP_ADDRESSES
from tests.support.packets import (
    ARP,
    CLIENT,
    FRAGMENT,
    ICMPV6,
    IPV4,
    IPV6,
    OTHER,
    TAP,
    arp,
    ethernet,
    ipv4,
    ipv6,
    neighbour,
    target_mac,
    udp,
)
from vknet.counters import DropReason
from vknet.switch.filter import SourceFilter
from vknet.switch.guard import Guard

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

RESERVED: Final[list[Address]] = [
    *map(IPv4Address, (TAP_ADDRESSES[0], "192.0.2.255", "198.51.100.11")),
    *map(IPv6Address, TAP_ADDRESSES[1:]),
]
FILTER: Final = SourceFilter(PREFIXES, TAP, RESERVED)
LINK_LOCAL: Final = IPv6Network("fe80::/10")

# Types of IPv6 extension headers whose second byte is their length, in units of eight bytes beyond
# the first eight.  The last three are the last header of a packet, so they count as protocols.
EXTENSIONS: Final = (0, 43, 60, 135, 139, 140)

thoroughly = settings(deadline=None, max_examples=400)


# --- an oracle: a second reader of the frames that passed -----------------------------------------


def is_allowed(address: Address) -> bool:
    """Whether a client may use this address."""
    inside = any(address.version == net.version and address in net for net in PREFIXES)
    return (inside or address in LINK_LOCAL) and address not in RESERVED


def check_passed_frame(frame: bytes) -> None:
    """Assert that a frame claims no address that its client may not use, and configures no host."""
    source, rest = frame[6:12], frame[12:]
    assert source != TAP
    assert not source[0] & 1
    assert any(source)
    while rest[:2] in (b"\x81\x00", b"\x88\xa8"):
        rest = rest[4:]
    match rest[:2]:
        case b"\x08\x06":
            check_arp(rest[2:], source)
        case b"\x08\x00":
            check_ipv4(rest[2:], source)
        case b"\x86\xdd":
            check_ipv6(rest[2:], source)
        case other:
            raise AssertionError(f"EtherType {other.hex()} passed")


def check_arp(message: bytes, source: bytes) -> None:
    assert message[:7] == bytes.fromhex("00010800060400")
    assert message[7] in (1, 2)
    assert message[8:14] == source
    sender, target = IPv4Address(message[14:18]), IPv4Address(message[24:28])
    if sender == IPv4Address(0):
        assert message[7] == 1
        assert target in PREFIXES[0] or target in PREFIXES[1]
    else:
        assert is_allowed(sender)


def check_ipv4(packet: bytes, mac: bytes) -> None:
    assert packet[0] >> 4 == 4
    size = packet[0] % 16 * 4
    check_ipv4_options(packet[20:size])
    payload = packet[size : int.from_bytes(packet[2:4], "big")]
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    protocol = packet[9]
    assert protocol in (1, 2, 6, 17, 50)
    fragmented = bool(int.from_bytes(packet[6:8], "big") & 0x3FFF)
    if source == IPv4Address(0):
        assert not fragmented
        if protocol == 17:
            assert (payload[:4], str(destination)) == (b"\0\x44\0\x43", "255.255.255.255")
        else:
            assert protocol == 2
            assert destination.is_multicast
    else:
        assert is_allowed(source)
    if protocol == 2:
        assert not fragmented
        assert payload[0] in (0x12, 0x16, 0x17, 0x22)
    if int.from_bytes(packet[6:8], "big") % 8192:
        return
    if protocol == 17:
        check_udp(payload, (67, 68), fragmented, mac)
    if protocol == 1:
        assert payload[0] in (0, 3, 8, 10, 11, 12, 13, 14, 42, 43)


def check_ipv4_options(options: bytes) -> None:
    while options and options[0]:
        if options[0] == 1:
            options = options[1:]
            continue
        assert options[0] not in (131, 137)
        assert 2 <= options[1] <= len(options)
        options = options[options[1] :]


def check_udp(datagram: bytes, dhcp: tuple[int, int], fragmented: bool, mac: bytes) -> None:
    """Assert that a datagram does not come from a DHCP server, a DHCP relay or a router.

    Args:
        datagram: from the UDP header on.
        dhcp: the ports of a DHCP server and of a DHCP client.
        fragmented: it is the first fragment.
        mac: the source of the frame.
    """
    server, client = dhcp
    source, destination, length = (int.from_bytes(datagram[n : n + 2], "big") for n in (0, 2, 4))
    message = datagram[8:]
    assert source != server
    assert destination not in (client, 520, 521)
    if destination != server:
        return
    assert not fragmented
    assert length == len(datagram)
    if server == 547:
        assert message[0] in (1, 3, 4, 5, 6, 8, 9, 11)
        return
    assert message[:3] == b"\1\1\6"
    assert message[24:34] == bytes(4) + mac
    options = message[240:] if message[236:240] == b"\x63\x82\x53\x63" else b""
    while options and options[0] != 255:
        if not options[0]:
            options = options[1:]
            continue
        if options[0] == 53:
            assert options[1] == 1
            assert options[2] in (1, 3, 4, 7, 8)
        options = options[2 + options[1] :]


def check_ipv6(packet: bytes, mac: bytes) -> None:
    assert packet[0] >> 4 == 6
    source, destination = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    unspecified = source == IPv6Address(0)
    assert unspecified or is_allowed(source)
    kind, rest = packet[6], packet[40 : 40 + int.from_bytes(packet[4:6], "big")]
    fragmented = False
    while kind in (0, 43, 44, 51, 60):
        if kind == 44:
            fragmented = True
            if int.from_bytes(rest[2:4], "big") >> 3:
                assert not unspecified
                assert rest[0] in (6, 17, 50, 58, 59, 1, 2)
                return
        if kind == 43:
            assert rest[3] == 0
        size = 8 if kind == 44 else (rest[1] + 2) * 4 if kind == 51 else (rest[1] + 1) * 8
        assert size <= len(rest)
        kind, rest = rest[0], rest[size:]
    assert kind in (1, 2, 6, 17, 50, 58, 59)
    if kind == 17:
        check_udp(rest, (547, 546), fragmented, mac)
    if unspecified:
        assert kind == 58
        assert destination.is_multicast
        assert rest[0] in (131, 132, 133, 135, 143)
        assert not fragmented
    if kind == 58:
        assert rest[0] in (1, 2, 3, 4, 128, 129, 131, 132, 133, 135, 136, 143, 160, 161)
        if rest[0] in (133, 135, 136):
            assert not fragmented
            assert packet[7] == 255
            check_discovery(rest, mac, unspecified=unspecified)


def check_discovery(message: bytes, mac: bytes, *, unspecified: bool) -> None:
    options = message[8:] if message[0] == 133 else message[24:]
    target = IPv6Address(message[8:24]) if message[0] != 133 else None
    if message[0] == 136:
        assert target is not None
        assert is_allowed(target)
        assert message[4] < 0x80
    if message[0] == 135 and unspecified:
        assert target in PREFIXES[2] or target in LINK_LOCAL
    while options:
        size = options[1] * 8
        assert 0 < size <= len(options)
        assert options[0] not in (1, 2) or options[2:size] == mac
        options = options[size:]


# --- any bytes ------------------------------------------------------------------------------------


@thoroughly
@given(st.binary(max_size=120) | headed)
def test_frame_of_any_bytes_is_dropped_or_claims_only_allowed_addresses(frame: bytes) -> None:
    reason = FILTER.check(frame)
    assert FILTER.check(memoryview(frame)) == reason
    if reason is None:
        check_passed_frame(frame)


@settings(deadline=None, max_examples=1500)
@given(changed())
def test_changed_frame_is_dropped_or_claims_only_allowed_addresses(frame: bytes) -> None:
    reason = FILTER.check(frame)
    event("passed" if reason is None else reason)
    assert FILTER.check(memoryview(frame)) == reason
    if reason is None:
        check_passed_frame(frame)


@settings(deadline=None, max_examples=60)
@given(st.lists(changed() | headed, max_size=5))
def test_any_frame_from_outside_makes_only_addresses_of_clients_unusable(
    frames: list[bytes],
) -> None:
    source_filter = SourceFilter(PREFIXES, TAP, RESERVED)
    guard = Guard(source_filter)
    for frame in frames:
        if len(frame) < 14:
            continue
        for view in (frame, memoryview(frame)):
            learn = guard.learner(view, 0)
            if learn is not None:
                learn(view)
    assert len(source_filter.ipv4.seen) + len(source_filter.ipv6.seen) <= 2 * len(frames)
    # What was seen is dropped now; nothing that was dropped before may leave.
    for frame in LEGITIMATE.values():
        assert guard.check(frame) in (None, DropReason.OUTSIDE_ADDRESS)
    for frame, reason in SPOOFED.values():
        assert guard.check(frame) in (reason, DropReason.OUTSIDE_ADDRESS)


# --- any prefixes ---------------------------------------------------------------------------------


def networks(version: int) -> st.SearchStrategy[Network]:
    bits = 32 if version == 4 else 128

    def build(address: int, length: int) -> Network:
        kept = address >> (bits - length) << (bits - length)
        return IPv4Network((kept, length)) if version == 4 else IPv6Network((kept, length))

    return st.builds(build, st.integers(0, 2**bits - 1), st.integers(0, bits))


@st.composite
def prefixes_and_a_source(draw: st.DrawFn, version: int) -> tuple[list[Network], int]:
    """Draw prefixes of both families, and an address in one of them, at its edge, or anywhere."""
    nets = draw(st.lists(networks(4) | networks(6), max_size=3))
    net = draw(networks(version))
    nets.append(net)
    first, last = int(net[0]), int(net[-1])
    most = 2 ** (32 if version == 4 else 128) - 1
    source = draw(
        st.integers(first, last)
        | st.sampled_from([first, last, max(first - 1, 0), min(last + 1, most)])
        | st.integers(0, most)
    )
    return nets, source


@thoroughly
@given(prefixes_and_a_source(4), st.booleans())
def test_ipv4_source_passes_if_and_only_if_a_client_may_use_it(
    drawn: tuple[list[Network], int], is_arp: bool
) -> None:
    nets, source = drawn
    address = IPv4Address(source)
    own_family = [net for net in nets if isinstance(net, IPv4Network)]
    allowed = (
        any(address in net for net in own_family)
        and not any(address == net[-1] for net in own_family if net.num_addresses > 2)
        and str(address) not in ("0.0.0.0", "255.255.255.255")
        and not address.is_multicast
    )
    event("allowed" if allowed else "not allowed")
    checker = SourceFilter(nets, TAP)
    if is_arp:
        frame = ethernet(ARP, arp(source, operation=2))
        assert checker.check(frame) == (None if allowed else DropReason.ARP_SENDER)
    else:
        frame = ethernet(IPV4, ipv4(source))
        assert checker.check(frame) == (None if allowed else DropReason.IPV4_SOURCE)


@thoroughly
@given(prefixes_and_a_source(6), st.booleans())
def test_ipv6_source_or_target_passes_if_and_only_if_a_client_may_use_it(
    drawn: tuple[list[Network], int], is_advertisement: bool
) -> None:
    nets, source = drawn
    address = IPv6Address(source)
    own_family = [net for net in nets if isinstance(net, IPv6Network)]
    allowed = (
        (any(address in net for net in own_family) or address in LINK_LOCAL)
        and not address.is_multicast
        and source != 0
    )
    event("allowed" if allowed else "not allowed")
    checker = SourceFilter(nets, TAP)
    if is_advertisement:
        message = neighbour(136, source, target_mac())
        frame = ethernet(IPV6, ipv6("fe80::5", ICMPV6, message))
        assert checker.check(frame) == (None if allowed else DropReason.ND_TARGET)
    else:
        frame = ethernet(IPV6, ipv6(source))
        assert checker.check(frame) == (None if allowed else DropReason.IPV6_SOURCE)


# The ports that mean something to the filter, and others.
ports = st.sampled_from(
    [67, 68, 520, 521, 546, 547, 646, 698, 1985, 2029, 3222, 6696]
) | st.integers(0, 65535)


@thoroughly
@given(ports, ports, st.booleans(), st.binary(max_size=4))
def test_udp_is_dropped_only_for_the_ports_of_dhcp_and_of_routing(
    source: int, destination: int, v4: bool, start: bytes
) -> None:
    """A message to a DHCP server is dropped because `start` is not one of a client."""
    payload = udp(source, destination, b"\2" + start)
    frame = (
        ethernet(IPV4, ipv4("192.0.2.5", 17, payload))
        if v4
        else ethernet(IPV6, ipv6("fe80::5", 17, payload))
    )
    server, client = (67, 68) if v4 else (547, 546)
    expected = None
    if destination in (520, 521):
        expected = DropReason.ROUTER_MESSAGE
    elif server in (source, destination) or destination == client:
        expected = DropReason.DHCP_SERVER
    assert FILTER.check(frame) == expected


@thoroughly
@given(st.integers(0, 255), st.frozensets(st.integers(0, 255), max_size=3), st.booleans())
def test_protocol_passes_if_and_only_if_it_is_listed(
    protocol: int, more: frozenset[int], v4: bool
) -> None:
    checker = SourceFilter(PREFIXES, TAP, protocols=more)
    # Bytes that are right for every protocol whose content is checked.
    content = {2: bytes([0x16, 0, 0, 0] + [0] * 36), 1: bytes([8] + [0] * 39)}
    payload = content.get(protocol, bytes([128] + [0] * 39))
    if v4:
        frame = ethernet(IPV4, ipv4("192.0.2.5", protocol, payload))
        listed = protocol in more | {1, 2, 6, 17, 50, 58}
    else:
        frame = ethernet(IPV6, ipv6("fe80::5", protocol, payload))
        listed = protocol in more | {1, 2, 6, 17, 50, 58, 59}
        if protocol in (0, 43, 44, 51, 60):
            return
    assert checker.check(frame) == (None if listed else DropReason.PROTOCOL)


@thoroughly
@given(
    st.integers(0, 255),
    st.integers(0, 8191),
    st.booleans(),
    st.binary(min_size=8, max_size=40),
)
def test_fragments_cannot_be_reassembled_to_neighbour_discovery(
    following: int, offset: int, more: bool, payload: bytes
) -> None:
    """No fragment that passes holds the start of its message, or of a header before it."""
    head = bytes([following, 0]) + (offset << 3 | more).to_bytes(2, "big") + bytes(4)
    frame = ethernet(IPV6, ipv6("fe80::5", FRAGMENT, head + payload))
    if FILTER.check(frame) is None and (offset or more):
        assert following not in (*EXTENSIONS, 44, 51)
        if following == ICMPV6 and not offset:
            assert payload[0] in (1, 2, 3, 4, 128, 129, 131, 132, 143, 160, 161)


@thoroughly
@given(st.sampled_from(sorted(LEGITIMATE)), st.sampled_from([OTHER, TAP, bytes(6), b"\xff" * 6]))
def test_frame_with_another_source_mac_never_names_the_client(name: str, mac: bytes) -> None:
    frame = LEGITIMATE[name]
    spoofed = frame[:6] + mac + frame[12:]
    # If the payload holds the client's MAC address, the source must be the same.
    if mac != OTHER or CLIENT in frame[14:]:
        assert FILTER.check(spoofed) is not None
    else:
        assert FILTER.check(spoofed) is None
