"""The addresses of interfaces, as a kernel that a test plays lists them, and as this one does."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from vknet.endpoints import interface
from vknet.endpoints.interface import ip_addresses

if TYPE_CHECKING:
    from collections.abc import Iterable

DONE = struct.pack("=IHHIIi", 20, 3, 2, 0, 0, 0)


def listed(
    index: int, address: str, *, peer: str | None = None, label: bytes = b"", flags: int = 2
) -> bytes:
    """Return a message RTM_NEWADDR."""
    ip = ip_address(address)
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    attributes = attribute(1, ip_address(peer or address).packed)
    if ip.version == 4 or peer is not None:
        attributes += attribute(2, ip.packed)
    if label:
        attributes += attribute(3, label + b"\0")
    body = struct.pack("=BBBBI", family, 24, 0, 0, index) + attributes
    return struct.pack("=IHHII", 16 + len(body), 20, flags, 0, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


class Kernel:
    """A netlink socket whose answers are made before."""

    def __init__(self, answers: Iterable[bytes]) -> None:
        self._answers = iter(answers)
        self.asked = 0

    def __call__(self, *_: object) -> Kernel:
        return self

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def bind(self, _: object) -> None:
        pass

    def send(self, _: bytes) -> None:
        self.asked += 1

    def recv(self, _: int) -> bytes:
        return next(self._answers)


def play(monkeypatch: pytest.MonkeyPatch, *answers: bytes) -> Kernel:
    kernel = Kernel(answers)
    monkeypatch.setattr(socket, "socket", kernel)
    return kernel


def test_addresses_are_those_of_the_index_whatever_their_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play(
        monkeypatch,
        listed(7, "198.18.5.1", label=b"anything:x") + listed(8, "192.0.2.1", label=b"tap0"),
        listed(9, "fe80::1") + listed(7, "198.18.6.1", peer="198.18.6.2"),
        listed(9, "fd00::1", peer="fd00::2") + DONE,
    )
    assert ip_addresses({7, 9}) == set(
        map(ip_address, ["198.18.5.1", "198.18.6.1", "fe80::1", "fd00::1"])
    )


def test_no_address_is_lost_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(3000)]
    play(monkeypatch, *(listed(7, address) for address in addresses), DONE)
    assert ip_addresses([7]) == set(map(ip_address, addresses))


def test_list_that_changed_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = listed(7, "198.18.5.1", flags=0x12)
    kernel = play(monkeypatch, changed, DONE, listed(7, "198.18.5.2") + DONE)
    assert ip_addresses([7]) == {ip_address("198.18.5.2")}
    assert kernel.asked == 2
    play(monkeypatch, *[changed + DONE] * interface.DUMP_TRIES)
    with pytest.raises(OSError, match="change too fast"):
        ip_addresses([7])


def test_refusal_of_the_kernel_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -errno.EPERM) + bytes(16))
    with pytest.raises(PermissionError):
        ip_addresses([7])


def test_loopback_has_its_addresses() -> None:
    loopback = socket.if_nametoindex("lo")
    assert ip_address("127.0.0.1") in ip_addresses([loopback])
    assert ip_addresses([]) == frozenset()
