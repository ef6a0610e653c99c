"""Check offload frames on real TAPs, known traps included.

A program for a network namespace of its own.  Each check gets two TAPs in one bridge.
"""

from __future__ import annotations

import errno
import logging
import os
import subprocess
from fcntl import ioctl
from typing import TYPE_CHECKING, Final

import trio

from tests.support.packets import UDP
from tests.support.superframes import Super, checksums_hold
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


class RecordingHandler(logging.Handler):
    """Keeps the messages of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def segmented(frame: OffloadFrame) -> list[bytes]:
    """Segment a frame in software."""
    offsets = validate(frame.data)
    assert isinstance(offsets, Offsets)
    return segment(frame, offsets)


def segments_of(frame: Super) -> list[bytes]:
    return segmented(frame.frame())


async def receive_plain(endpoint: Endpoint, count: int) -> list[bytes]:
    """Receive this number of frames as plain frames."""
    got: list[bytes] = []
    with trio.fail_after(5):
        while len(got) < count:
            got += map(bytes, await endpoint.receive())
    return got


async def capabilities_of_the_kernel_are_found_and_disabled(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    assert DEFAULT_OFFLOADS in one.accepts
    await one.send_offload([BIG.frame()])
    with trio.fail_after(5):
        await two.wait_receivable()
    # The kernel has segmented it, not the endpoint.
    assert list(two.receive_offload_nowait()) == segments_of(BIG)


async def super_frames_are_sent_and_received_unsegmented(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    await two.set_offload(Offload.CSUM | Offload.TSO4)
    six = Super(bytes(3000), version=6, size=1428)
    await one.send_offload([BIG.frame(), six.frame(), Super(size=0, payload=b"x").frame()])
    with trio.fail_after(5):
        await two.wait_receivable()
    whole, *cut, alone = two.receive_offload_nowait()
    assert isinstance(whole, OffloadFrame)
    assert segments_of(BIG) == segmented(whole)
    assert isinstance(alone, OffloadFrame)
    # Segmented, with partial checksums: TSO6 is not enabled.
    assert [len(frame) for frame in cut] == [len(frame) for frame in segments_of(six)]
    assert two.receive_drops == {}


async def frames_queued_before_offloads_were_disabled_are_segmented_here(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    await two.set_offload(DEFAULT_OFFLOADS)
    await one.send_offload([BIG.frame()])
    await two.set_offload(NO_OFFLOADS)
    await one.send_offload([BIG.frame()])
    assert await receive_plain(two, 36) == segments_of(BIG) * 2


async def kernel_that_refuses_super_frames_gets_segments(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    handler = RecordingHandler()
    logging.getLogger("vknet").addHandler(handler)
    attempts = 0

    class OldKernel:
        """System calls that refuse super-frames, as in Linux 6.1.103, 6.6.44 and 6.10.3."""

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
    got = await receive_plain(two, 18 * 3 + 1)
    assert got[:36] == segments_of(BIG) * 2
    assert got[37:] == segments_of(BIG)
    assert all(map(checksums_hold, got))
    assert (attempts, one.segmented, one.accepts) == (1, 3, Offload.CSUM)
    assert len([line for line in handler.messages if "refuses" in line]) == 1, handler.messages


async def refused_checksum_does_not_disable_segmentation_offload(
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
    assert await receive_plain(two, 1) == segments_of(alone)
    assert DEFAULT_OFFLOADS in one.accepts


async def segments_over_the_mtu_are_dropped_until_it_is_raised(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    await one.send_offload([JUMBO.frame(), BIG.frame()])
    assert await receive_plain(two, 18) == segments_of(BIG)
    assert one.send_drops == {DropReason.OVER_MTU: 1}
    for endpoint in (one, two):
        await ip("link", "set", endpoint.name, "mtu", "9000")
    await one.send_offload([JUMBO.frame()])
    assert await receive_plain(two, 4) == segments_of(JUMBO)
    await ip("link", "set", one.name, "mtu", "1500")
    await one.maintain()
    await one.send_offload([JUMBO.frame()])
    assert one.send_drops == {DropReason.OVER_MTU: 2}


async def super_frame_of_one_segment_arrives(one: TapEndpoint, two: TapEndpoint) -> None:
    frame = Super(bytes(1000), options=bytes(12), size=1000)
    await one.send_offload([frame.frame()])
    assert await receive_plain(two, 1) == segments_of(frame)


async def dhcp_is_received_with_its_checksum(one: TapEndpoint, two: TapEndpoint) -> None:
    await two.set_offload(DEFAULT_OFFLOADS)
    undone = bytearray(Super(bytes(300), size=0, protocol=UDP).frame().data)
    undone[44:48] = b"\0\x43\0\x44"
    await one.send_offload([OffloadFrame(bytes(undone))])
    with trio.fail_after(5):
        await two.wait_receivable()
    (frame,) = two.receive_offload_nowait()
    assert isinstance(frame, bytes)
    assert checksums_hold(frame)


def numbered_batch(count: int) -> UniformBatch:
    """Return datagrams of one form, each with its number as the payload."""
    return UniformBatch(
        [bytes(Super(b"%04d" % n, size=0, protocol=UDP).frame().data) for n in range(count)],
        offload=True,
    )


async def uniform_batch_is_sent_and_received_as_one(one: TapEndpoint, two: TapEndpoint) -> None:
    await two.set_offload(Offload.CSUM)
    batch = numbered_batch(200)
    await one.send_offload(batch)
    with trio.fail_after(5):
        await two.wait_receivable()
    got = two.receive_offload_nowait()
    assert isinstance(got, UniformBatch)
    assert [*got] == [*batch]


async def uniform_batch_for_an_interface_that_is_down_is_dropped(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    batch = numbered_batch(20)
    await ip("link", "set", one.name, "down")
    await one.send_offload(batch)
    await one.send_offload(batch)
    assert one.send_drops == {DropReason.INTERFACE_DOWN: 40}
    await ip("link", "set", one.name, "up")
    # Wait until the port forwards again.
    with trio.fail_after(10):
        await one.send([MARKER])
        await two.receive()
    await one.send_offload(batch)
    assert await receive_plain(two, 20) == [
        finish_checksum(OffloadFrame(data)) for data in batch.datas
    ]


async def frames_of_a_uniform_batch_that_the_kernel_refuses_are_handled(
    one: TapEndpoint, two: TapEndpoint
) -> None:
    fails: dict[int, int] = {}

    class Picky:
        """System calls that refuse some of the datagrams, by number."""

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def write(self, fd: int, data: bytes) -> int:
            why = fails.get(int(data[-4:]))
            if why is not None:
                raise OSError(why, os.strerror(why))
            return os.write(fd, data)

    batch = numbered_batch(20)
    whole = [finish_checksum(OffloadFrame(data)) for data in batch.datas]
    vars(tap)["os"] = Picky()
    try:
        fails.update({7: errno.EINVAL, 11: errno.EINVAL})
        await one.send_offload(batch)
        assert await receive_plain(two, 20) == whole
        assert one.segmented == 2
        fails.update({7: errno.EAGAIN, 11: errno.EAGAIN})
        await one.send_offload(batch)
        assert one.send_drops == {DropReason.ENDPOINT_FULL: 2}
        assert await receive_plain(two, 18) == [f for n, f in enumerate(whole) if n not in fails]
        fails.update({7: errno.EBADFD})
        gone = ""
        try:
            await one.send_offload(batch)
        except EndpointGone as exc:
            gone = str(exc)
        assert "was deleted" in gone
    finally:
        vars(tap)["os"] = os


CHECKS: Final[tuple[Callable[[TapEndpoint, TapEndpoint], Awaitable[None]], ...]] = (
    capabilities_of_the_kernel_are_found_and_disabled,
    super_frames_are_sent_and_received_unsegmented,
    frames_queued_before_offloads_were_disabled_are_segmented_here,
    kernel_that_refuses_super_frames_gets_segments,
    refused_checksum_does_not_disable_segmentation_offload,
    segments_over_the_mtu_are_dropped_until_it_is_raised,
    super_frame_of_one_segment_arrives,
    dhcp_is_received_with_its_checksum,
    uniform_batch_is_sent_and_received_as_one,
    uniform_batch_for_an_interface_that_is_down_is_dropped,
    frames_of_a_uniform_batch_that_the_kernel_refuses_are_handled,
)


def leave_other_settings(name: str) -> None:
    """Leave a persistent TAP with the settings of another program."""
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
            leave_other_settings(name)
        async with (
            await open_tap("tap1", bridge="br0") as one,
            await open_tap("tap2", bridge="br0") as two,
        ):
            # Wait until the ports forward.
            with trio.fail_after(10):
                await one.send([MARKER])
                await two.receive()
            await check(one, two)
        for name in ("tap1", "tap2"):
            await ip("link", "del", name)
        print("passed", check.__name__)


if __name__ == "__main__":
    # The kernel must send no frames of its own, and the bridge must not filter.
    for scope in ("all", "default"):
        subprocess.run(["sysctl", "-qw", f"net.ipv6.conf.{scope}.disable_ipv6=1"], check=True)
    for tables in ("iptables", "ip6tables"):
        subprocess.run(["sysctl", "-qwe", f"net.bridge.bridge-nf-call-{tables}=0"], check=True)
    trio.run(main)
