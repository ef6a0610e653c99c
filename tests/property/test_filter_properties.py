"""Secure mode under any bytes, any prefixes, and legitimate frames with something changed."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, TypeAlias

from hypothesis import event, given, settings
from hypothesis import strategies as st

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
from tests.switch.test_filter import LEGITIMATE, OWN, SPOOFED, TAGS, tagged
from vknet.counters import DropReason
from vknet.switch.filter import SourceFilter

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

PREFIXES: Final = [ip_network(n) for n in ("192.0.2.0/24", "198.51.100.8/30", "2001:db8::/64")]
TAKEN: Final[list[Address]] = [
    *map(IPv4Address, (OWN[0], "192.0.2.255", "198.51.100.11")),
    *map(IPv6Address, OWN[1:]),
]
FILTER: Final = SourceFilter(PREFIXES, TAP, TAKEN)
LINK_LOCAL: Final = IPv6Network("fe80::/10")

# Kinds of headers in an IPv6 packet that say how long they are, in eight bytes beyond the first.
MEASURED: Final = (0, 43, 60, 135, 139, 140)

thoroughly = settings(deadline=None, max_examples=400)


# --- an oracle, which reads what passed -----------------------------------------------------------


def is_theirs(address: Address) -> bool:
    """Whether a client may have it."""
    inside = any(address.version == net.version and address in net for net in PREFIXES)
    return (inside or address in LINK_LOCAL) and address not in TAKEN


def look_at_what_passed(frame: bytes) -> None:
    """Whatever is wrong with it, it tells no lies that matter."""
    source, rest = frame[6:12], frame[12:]
    assert source != TAP
    assert not source[0] & 1
    assert any(source)
    while rest[:2] in (b"\x81\x00", b"\x88\xa8"):
        rest = rest[4:]
    match rest[:2]:
        case b"\x08\x06":
            look_at_arp(rest[2:], source)
        case b"\x08\x00":
            look_at_ipv4(rest[2:])
        case b"\x86\xdd":
            look_at_ipv6(rest[2:], source)
        case other:
            raise AssertionError(f"type {other.hex()} passed")


def look_at_arp(message: bytes, source: bytes) -> None:
    assert message[:7] == bytes.fromhex("00010800060400")
    assert message[7] in (1, 2)
    assert message[8:14] == source
    sender, target = IPv4Address(message[14:18]), IPv4Address(message[24:28])
    if sender == IPv4Address(0):
        assert message[7] == 1
        assert target in PREFIXES[0] or target in PREFIXES[1]
    else:
        assert is_theirs(sender)


def look_at_ipv4(packet: bytes) -> None:
    assert packet[0] >> 4 == 4
    payload = packet[packet[0] % 16 * 4 : int.from_bytes(packet[2:4], "big")]
    ports = tuple(int.from_bytes(payload[n : n + 2], "big") for n in (0, 2))
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    if source == IPv4Address(0):
        assert packet[9] == 17
        assert ports == (68, 67)
        assert str(destination) == "255.255.255.255"
        return
    assert is_theirs(source)
    if not int.from_bytes(packet[6:8], "big") % 8192:
        assert packet[9] != 17 or (ports[0] != 67 and ports[1] != 68)
        assert packet[9] != 1 or payload[0] not in (5, 9)


def look_at_ipv6(packet: bytes, mac: bytes) -> None:
    assert packet[0] >> 4 == 6
    source, destination = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    nobody = source == IPv6Address(0)
    assert nobody or is_theirs(source)
    kind, rest = packet[6], packet[40 : 40 + int.from_bytes(packet[4:6], "big")]
    fragmented = False
    while kind in (*MEASURED, 44, 51):
        if kind == 44:
            fragmented = True
            if int.from_bytes(rest[2:4], "big") >> 3:
                assert not nobody
                return
        size = 8 if kind == 44 else (rest[1] + 2) * 4 if kind == 51 else (rest[1] + 1) * 8
        assert size <= len(rest)
        kind, rest = rest[0], rest[size:]
    if kind == 17:
        assert int.from_bytes(rest[:2], "big") != 547
        assert int.from_bytes(rest[2:4], "big") != 546
    if nobody:
        assert kind == 58
        assert destination.is_multicast
        assert rest[0] in (131, 132, 133, 135, 143)
        assert not fragmented
    if kind == 58 and 133 <= rest[0] <= 137:
        assert not fragmented
        assert rest[0] not in (134, 137)
        look_at_discovery(rest, mac, nobody=nobody)


def look_at_discovery(message: bytes, mac: bytes, *, nobody: bool) -> None:
    options = message[8:] if message[0] == 133 else message[24:]
    target = IPv6Address(message[8:24]) if message[0] != 133 else None
    if message[0] == 136:
        assert target is not None
        assert is_theirs(target)
    if message[0] == 135 and nobody:
        assert target in PREFIXES[2] or target in LINK_LOCAL
    while options:
        size = options[1] * 8
        assert 0 < size <= len(options)
        assert options[0] not in (1, 2) or options[2:size] == mac
        options = options[size:]


# --- any bytes ------------------------------------------------------------------------------------

every_frame = [*LEGITIMATE.values(), *(frame for frame, _ in SPOOFED.values())]
headed = st.builds(
    lambda tags, kind, rest: TAP + CLIENT + tags + kind + rest,
    st.sampled_from([b"", *TAGS.values()]),
    st.sampled_from([b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x88\xcc"]),
    st.binary(max_size=120),
)


@thoroughly
@given(st.binary(max_size=120) | headed)
def test_garbage_never_raises_and_tells_no_lies(frame: bytes) -> None:
    reason = FILTER.check(frame)
    assert FILTER.check(memoryview(frame)) == reason
    if reason is None:
        look_at_what_passed(frame)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A frame with a few bytes changed where it matters, or put in, or taken out."""
    frame = bytearray(draw(st.sampled_from(every_frame)))
    if draw(st.booleans()):
        frame = bytearray(tagged(bytes(frame), draw(st.sampled_from(list(TAGS.values())))))
    telling = [0, 1, 2, 4, 17, 44, 51, 58, 60, 67, 68, 133, 134, 135, 136, 137, 255]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(frame) - 1, 0)))
        value = draw(st.sampled_from(telling) | st.integers(0, 255))
        match draw(st.sampled_from(["set", "set", "set", "flip", "insert", "delete", "cut"])):
            case "set":
                frame[at : at + 1] = bytes([value])
            case "flip":
                frame[at : at + 1] = bytes([frame[at] ^ 1 << value % 8]) if frame else b""
            case "insert":
                frame[at:at] = bytes([value]) * 8
            case "delete":
                del frame[at : at + 8]
            case _:
                del frame[at:]
    return bytes(frame)


@settings(deadline=None, max_examples=1500)
@given(changed())
def test_a_frame_with_something_changed_is_refused_or_tells_no_lies(frame: bytes) -> None:
    reason = FILTER.check(frame)
    event("passed" if reason is None else reason)
    assert FILTER.check(memoryview(frame)) == reason
    if reason is None:
        look_at_what_passed(frame)


# --- any prefixes ---------------------------------------------------------------------------------


def networks(version: int) -> st.SearchStrategy[Network]:
    bits = 32 if version == 4 else 128

    def build(address: int, length: int) -> Network:
        kept = address >> (bits - length) << (bits - length)
        return IPv4Network((kept, length)) if version == 4 else IPv6Network((kept, length))

    return st.builds(build, st.integers(0, 2**bits - 1), st.integers(0, bits))


@st.composite
def prefixes_and_a_source(draw: st.DrawFn, version: int) -> tuple[list[Network], int]:
    """Prefixes of both families, and an address in one of them, at its edge, or anywhere."""
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
def test_an_ipv4_source_passes_if_and_only_if_a_client_may_have_it(
    drawn: tuple[list[Network], int], is_arp: bool
) -> None:
    nets, source = drawn
    address = IPv4Address(source)
    mine = [net for net in nets if isinstance(net, IPv4Network)]
    allowed = (
        any(address in net for net in mine)
        and not any(address == net[-1] for net in mine if net.num_addresses > 2)
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
def test_an_ipv6_source_or_target_passes_if_and_only_if_a_client_may_have_it(
    drawn: tuple[list[Network], int], is_advertisement: bool
) -> None:
    nets, source = drawn
    address = IPv6Address(source)
    mine = [net for net in nets if isinstance(net, IPv6Network)]
    allowed = (
        (any(address in net for net in mine) or address in LINK_LOCAL)
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


@thoroughly
@given(st.integers(0, 65535), st.integers(0, 65535), st.booleans())
def test_no_ports_but_a_dhcp_servers_are_looked_at(source: int, destination: int, v4: bool) -> None:
    payload = udp(source, destination)
    frame = (
        ethernet(IPV4, ipv4("192.0.2.5", 17, payload))
        if v4
        else ethernet(IPV6, ipv6("fe80::5", 17, payload))
    )
    server, client = (67, 68) if v4 else (547, 546)
    answers = source == server or destination == client
    assert FILTER.check(frame) == (DropReason.DHCP_SERVER if answers else None)


@thoroughly
@given(
    st.integers(0, 255),
    st.integers(0, 8191),
    st.booleans(),
    st.binary(min_size=8, max_size=40),
)
def test_no_fragments_make_up_neighbour_discovery(
    following: int, offset: int, more: bool, payload: bytes
) -> None:
    """Put together in any way, they do not begin with its message, nor with a header before it."""
    head = bytes([following, 0]) + (offset << 3 | more).to_bytes(2, "big") + bytes(4)
    frame = ethernet(IPV6, ipv6("fe80::5", FRAGMENT, head + payload))
    if FILTER.check(frame) is None and (offset or more):
        assert following not in (*MEASURED, 44, 51)
        if following == ICMPV6 and not offset:
            assert not 133 <= payload[0] <= 137


@thoroughly
@given(st.sampled_from(sorted(LEGITIMATE)), st.sampled_from([OTHER, TAP, bytes(6), b"\xff" * 6]))
def test_a_frame_with_another_source_never_speaks_for_a_client(name: str, mac: bytes) -> None:
    frame = LEGITIMATE[name]
    spoofed = frame[:6] + mac + frame[12:]
    # Where the payload names the client's address, the header may not name another.
    if mac != OTHER or CLIENT in frame[14:]:
        assert FILTER.check(spoofed) is not None
    else:
        assert FILTER.check(spoofed) is None
