"""Runs on a host of its own: what a TAP does with offload frames, in traps that are known."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
from fcntl import ioctl
from typing import TYPE_CHECKING, Final

import trio

from tests.support.superframes import UDP, Super, checksums_hold
from vknet.counters import DropReason
from vknet.endpoints import tap, tun
from vknet.endpoints.tap import open_tap
from vknet.errors import EndpointGone
from vknet.packet.gso import finish_checksum, segment
from vknet.packet.uniform_batch import UniformBatch
from vknet.packet.virtio import (
    DEFAULT_OFFLOADS,
    NO_OFFLOADS,
    Offload,
    OffloadFrame,
    Offsets,
    validate,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vknet import Endpoint, TapEndpoint

BIG: Final = Super(bytes(range(256)) * 100)
JUMBO: Final = Super(bytes(30_000), size=8948)
MARKER: Final = bytes.fromhex("020000000002 020000000001 88b5") + bytes(46)


async def ip(*words: str) -> None:
    await trio.run_process(["ip", *words])


def pieces(frame: Super) -> list[bytes]:
    made = frame.frame()
    offsets = validate(made.data)
    assert isinstance(offsets, Offsets)
    return segment(made, offsets)


async def plain(endpoint: Endpoint, count: int) -> list[bytes]:
    """So many of the frames that come, as somebody sees them who knows of no offload."""
    got: list[bytes] = []
    with trio.fail_after(5):
        while len(got) < count:
            got += map(bytes, await endpoint.receive())
    return got


async def what_this_kernel_can_is_found_and_is_off(one: TapEndpoint, two: TapEndpoint) -> None:
    assert DEFAULT_OFFLOADS in one.accepts
    await one.send_offload([BIG.frame()])
    with trio.fail_after(5):
        await two.wait_receivable()
    # By the kernel, and not by the endpoint.
    assert list(two.receive_offload_nowait()) == pieces(BIG)


async def super_frames_go_in_and_come_out_whole(one: TapEndpoint, two: TapEndpoint) -> None:
    await two.set_offload(Offload.CSUM | Offload.TSO4)
    six = Super(bytes(3000), version=6, size=1428)
    await one.send_offload([BIG.frame(), six.frame(), Super(size=0, payload=b"x").frame()])
    with trio.fail_after(5):
        await two.wait_receivable()
    whole, *cut, alone = two.receive_offload_nowait()
    assert isinstance(whole, OffloadFrame)
    assert pieces(BIG) == segment(whole, validate(whole.data))  # type: ignore[arg-type]
    assert isinstance(alone, OffloadFrame)
    # Cut, but with their sums left undone: tso6 was not asked for.
    assert [len(frame) for frame in cut] == [len(frame) for frame in pieces(six)]
    assert two.receive_drops == {}


async def what_was_queued_before_offloads_were_lowered_is_cut_here(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    await two.set_offload(DEFAULT_OFFLOADS)
    await one.send_offload([BIG.frame()])
    await two.set_offload(NO_OFFLOADS)
    await one.send_offload([BIG.frame()])
    assert await plain(two, 36) == pieces(BIG) * 2


async def a_kernel_that_refuses_super_frames_gets_segments(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("vknet").addHandler(handler)
    attempts = 0

    class OldKernel:
        """The system calls as some kernels have them: 6.1.103, 6.6.44, 6.10.3."""

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def write(self, fd: int, data: bytes) -> int:
            nonlocal attempts
            if data[1]:
                attempts += 1
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return os.write(fd, data)

    vars(tap)["os"] = OldKernel()
    try:
        await one.send_offload([BIG.frame(), BIG.frame(), Super(size=0, payload=b"x").frame()])
        await one.send_offload([BIG.frame()])
    finally:
        vars(tap)["os"] = os
        logging.getLogger("vknet").removeHandler(handler)
    got = await plain(two, 18 * 3 + 1)
    assert got[:36] == pieces(BIG) * 2
    assert got[37:] == pieces(BIG)
    assert all(map(checksums_hold, got))
    assert (attempts, one.segmented, one.accepts) == (1, 3, Offload.CSUM)
    assert len([line for line in said if "refuses" in line]) == 1, said


async def a_checksum_that_the_kernel_refuses_is_no_reason_to_cut_all_others(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    alone = Super(size=0, payload=b"x")

    class Picky:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def write(self, fd: int, data: bytes) -> int:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    vars(tap)["os"] = Picky()
    try:
        await one.send_offload([alone.frame()])
    finally:
        vars(tap)["os"] = os
    assert await plain(two, 1) == pieces(alone)
    assert DEFAULT_OFFLOADS in one.accepts


async def segments_over_the_mtu_are_dropped_until_it_is_raised(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    await one.send_offload([JUMBO.frame(), BIG.frame()])
    assert await plain(two, 18) == pieces(BIG)
    assert one.send_drops == {DropReason.OVER_MTU: 1}
    for endpoint in (one, two):
        await ip("link", "set", endpoint.name, "mtu", "9000")
    await one.send_offload([JUMBO.frame()])
    assert await plain(two, 4) == pieces(JUMBO)
    await ip("link", "set", one.name, "mtu", "1500")
    await one.maintain()
    await one.send_offload([JUMBO.frame()])
    assert one.send_drops == {DropReason.OVER_MTU: 2}


async def one_segment_announced_as_several_arrives(one: TapEndpoint, two: TapEndpoint) -> None:
    frame = Super(bytes(1000), options=bytes(12), size=1000)
    await one.send_offload([frame.frame()])
    assert await plain(two, 1) == pieces(frame)


async def dhcp_comes_out_with_its_checksum(one: TapEndpoint, two: TapEndpoint) -> None:
    await two.set_offload(DEFAULT_OFFLOADS)
    undone = bytearray(Super(bytes(300), size=0, protocol=UDP).frame().data)
    undone[44:48] = b"\0\x43\0\x44"
    await one.send_offload([OffloadFrame(bytes(undone))])
    with trio.fail_after(5):
        await two.wait_receivable()
    (frame,) = two.receive_offload_nowait()
    assert isinstance(frame, bytes)
    assert checksums_hold(frame)


def train_of(count: int) -> UniformBatch:
    """Datagrams that are alike; each says which it is."""
    return UniformBatch(
        [bytes(Super(b"%04d" % n, size=0, protocol=UDP).frame().data) for n in range(count)],
        offload=True,
    )


async def a_train_goes_in_and_comes_out_as_one(one: TapEndpoint, two: TapEndpoint) -> None:
    await two.set_offload(Offload.CSUM)
    train = train_of(200)
    await one.send_offload(train)
    with trio.fail_after(5):
        await two.wait_receivable()
    got = two.receive_offload_nowait()
    assert isinstance(got, UniformBatch)
    assert [*got] == [*train]


async def a_train_for_an_interface_that_is_down_is_dropped(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    train = train_of(20)
    await ip("link", "set", one.name, "down")
    await one.send_offload(train)
    await one.send_offload(train)
    assert one.send_drops == {DropReason.INTERFACE_DOWN: 40}
    await ip("link", "set", one.name, "up")
    # Until the port forwards again.
    with trio.fail_after(10):
        await one.send([MARKER])
        await two.receive()
    await one.send_offload(train)
    assert await plain(two, 20) == [finish_checksum(OffloadFrame(data)) for data in train.datas]


async def a_train_of_which_the_kernel_refuses_some(one: TapEndpoint, two: TapEndpoint) -> None:
    fails: dict[int, int] = {}

    class Picky:
        """Fails for some of the datagrams, by their numbers."""

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def write(self, fd: int, data: bytes) -> int:
            why = fails.get(int(data[-4:]))
            if why is not None:
                raise OSError(why, os.strerror(why))
            return os.write(fd, data)

    train = train_of(20)
    whole = [finish_checksum(OffloadFrame(data)) for data in train.datas]
    vars(tap)["os"] = Picky()
    try:
        fails.update({7: errno.EINVAL, 11: errno.EINVAL})
        await one.send_offload(train)
        assert await plain(two, 20) == whole
        assert one.segmented == 2
        fails.update({7: errno.EAGAIN, 11: errno.EAGAIN})
        await one.send_offload(train)
        assert one.send_drops == {DropReason.ENDPOINT_FULL: 2}
        assert await plain(two, 18) == [f for n, f in enumerate(whole) if n not in fails]
        fails.update({7: errno.EBADFD})
        gone = ""
        try:
            await one.send_offload(train)
        except EndpointGone as exc:
            gone = str(exc)
        assert "was deleted" in gone
    finally:
        vars(tap)["os"] = os


CHECKS: Final[tuple[Callable[[TapEndpoint, TapEndpoint], Awaitable[None]], ...]] = (
    what_this_kernel_can_is_found_and_is_off,
    super_frames_go_in_and_come_out_whole,
    what_was_queued_before_offloads_were_lowered_is_cut_here,
    a_kernel_that_refuses_super_frames_gets_segments,
    a_checksum_that_the_kernel_refuses_is_no_reason_to_cut_all_others,
    segments_over_the_mtu_are_dropped_until_it_is_raised,
    one_segment_announced_as_several_arrives,
    dhcp_comes_out_with_its_checksum,
    a_train_goes_in_and_comes_out_as_one,
    a_train_for_an_interface_that_is_down_is_dropped,
    a_train_of_which_the_kernel_refuses_some,
)


def spoil(name: str) -> None:
    """Leave a persistent TAP as somebody with other wants leaves it."""
    fd = tun.open_device()
    flags = tun.IFF_TAP | tun.IFF_NO_PI | tun.IFF_VNET_HDR
    ioctl(fd, tun.TUNSETIFF, tun.IFREQ.pack(name.encode(), flags))
    ioctl(fd, tun.TUNSETVNETHDRSZ, tun.INT.pack(12))
    ioctl(fd, tun.TUNSETOFFLOAD, 0x01 | 0x02 | 0x04)
    os.close(fd)


async def main() -> None:
    for check in CHECKS:
        for name in ("tap1", "tap2"):
            await ip("tuntap", "add", "dev", name, "mode", "tap")
            spoil(name)
        async with (
            await open_tap("tap1", bridge="br0") as one,
            await open_tap("tap2", bridge="br0") as two,
        ):
            # Until the ports forward.
            with trio.fail_after(10):
                await one.send([MARKER])
                await two.receive()
            await check(one, two)
        for name in ("tap1", "tap2"):
            await ip("link", "del", name)
        print("passed", check.__name__)


if __name__ == "__main__":
    # Nothing of the kernel's own on the interfaces, and no packet filter in the bridge.
    for scope in ("all", "default"):
        subprocess.run(["sysctl", "-qw", f"net.ipv6.conf.{scope}.disable_ipv6=1"], check=True)
    for filtered in ("iptables", "ip6tables"):
        subprocess.run(["sysctl", "-qwe", f"net.bridge.bridge-nf-call-{filtered}=0"], check=True)
    trio.run(main)
