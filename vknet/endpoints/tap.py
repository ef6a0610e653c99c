"""A TAP interface: the kernel's Documentation/networking/tuntap.rst.

Facts the code rests on, seen on Linux 6.18:

* A TAP that vknet made vanishes when its descriptor is closed, however that comes about.  One that
  was there before (persistent) stays, with whatever was set on it.
* Each frame has an offload header (`vknet.packet.virtio`) before it, both ways, and may be a
  super-frame. What a kernel may hand over is asked for; what it takes, every kernel that has it at
  all takes, but some that should refuse it with EINVAL (6.1.103, 6.6.44, 6.10.3).
* While the interface is down a write fails with EIO, and a read finds nothing.  When it has been
  deleted, poll says EPOLLERR, and read and write fail with EBADFD for good.
* tun drops at its own ring (txqueuelen frames, the newest first) when nobody reads.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from errno import EAGAIN, EBADFD, EINVAL, EIO, ENODEV, ENXIO
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from vknet.counters import DropReason
from vknet.endpoints import netlink, tun
from vknet.endpoints.base import Endpoint
from vknet.endpoints.tap_attach import attach, attach_unused, stable_mac
from vknet.errors import EndpointGone, SetupError
from vknet.packet.ethernet import BATCH_BYTES, BATCH_FRAMES, ETHERNET_HEADER_SIZE, LONGEST_FRAME
from vknet.packet.gso import batch_from_kernel, plain_frames, segment
from vknet.packet.uniform_batch import UniformBatch
from vknet.packet.virtio import (
    FAST_PATH_OFFSETS,
    NO_OFFLOADS,
    PLAIN_HEADER,
    VNET_HEADER_SIZE,
    Offload,
    OffloadFrame,
    header_kinds,
    validate,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.ethernet import Frame
    from vknet.packet.virtio import AnyFrame, Offsets

__all__ = ["TapEndpoint", "open_tap"]

log = logging.getLogger(__name__)

TAP_READ_SIZE: Final = VNET_HEADER_SIZE + LONGEST_FRAME


class TapEndpoint(Endpoint):
    """An endpoint on a TAP, made by `open_tap`; it owns the descriptor and closes it.

    Attributes:
        index: the interface's number.
        made: vknet made the interface, so it goes when this is closed.
        bridge: the bridge it was put in; None if none.
        bridge_index: that one's number; it is another when the bridge was made anew.
        segmented: how many offload frames that came for it had to be done here.
    """

    def __init__(
        self, fd: int, interface: netlink.Interface, *, made: bool, bridge: str | None, fixed: bool
    ) -> None:
        super().__init__(interface.name, interface.mtu, mtu_fixed=fixed or not made)
        self.index = interface.index
        self.made = made
        self.bridge = bridge
        self.bridge_index = interface.master
        self._fd = fd
        self._bridge_missing = False
        self._down = False
        self._capabilities = tun.capabilities(fd)
        self.accepts = self._capabilities
        self._kinds = header_kinds(self.accepts)
        self.segmented = 0

    async def set_offload(self, offloads: Offload) -> None:
        if self._fd < 0:
            await trio.lowlevel.checkpoint()
            return
        # It takes the RTNL lock, which others may hold for long.
        wanted = self._capabilities & offloads
        try:
            await trio.to_thread.run_sync(tun.set_offloads, self._fd, wanted)
        except OSError as exc:
            # All is off then, as it was; if the TAP has gone, the next read says so.
            log.debug("%s: no offloads: %s", self.name, exc.strerror)

    def receive_nowait(self) -> list[Frame]:
        return plain_frames(self.receive_offload_nowait(), self.receive_drops)

    def receive_offload_nowait(self, enough: int = BATCH_FRAMES) -> Sequence[AnyFrame]:
        raws: list[bytes] = []
        add, read, fd = raws.append, os.read, self._fd
        left = BATCH_BYTES
        try:
            for _ in range(enough):
                raw = read(fd, TAP_READ_SIZE)
                add(raw)
                left -= len(raw)
                if left <= 0:
                    break
        except BlockingIOError:
            if not raws:
                raise trio.WouldBlock from None
        except OSError as exc:
            if not raws:
                raise self._gone(exc) from exc
        return batch_from_kernel(raws)

    async def wait_receivable(self) -> None:
        self._raise_if_closed()
        await trio.lowlevel.wait_readable(self._fd)

    async def send(self, frames: Sequence[Frame]) -> None:
        await self.send_offload(frames)

    def try_send(self, frames: Sequence[Frame]) -> int:
        # A TAP takes all at once; what it does not take is for `send` to look into.
        sent = 0
        with suppress(OSError):
            for frame in frames:
                os.writev(self._fd, (PLAIN_HEADER, frame))
                sent += 1
        return sent

    async def send_offload(self, frames: Sequence[AnyFrame]) -> None:
        fd, write, writev = self._fd, os.write, os.writev
        takes_fast_path = Offload.CSUM in self.accepts
        if isinstance(frames, UniformBatch) and takes_fast_path and frames.offsets() is not None:
            frames = frames[self._write_uniform(frames) :]
        for frame in frames:
            offsets: Offsets | DropReason = FAST_PATH_OFFSETS
            try:
                if not isinstance(frame, OffloadFrame):
                    writev(fd, (PLAIN_HEADER, frame))
                elif (
                    offsets := validate(frame.data, self.mtu)
                ) is FAST_PATH_OFFSETS and takes_fast_path:
                    write(fd, frame.data)
                else:
                    self._write_offload(frame, offsets)
                    continue
            except OSError as exc:
                if exc.errno == EINVAL and isinstance(frame, OffloadFrame):
                    self._write_offload(frame, offsets)
                else:
                    self._write_failed(exc, frame)
            else:
                if self._down:
                    self._is_up()

    async def send_batches(self, batches: Sequence[Sequence[AnyFrame]]) -> None:
        # It never waits, and knows of trains.
        for batch in batches:
            await self.send_offload(batch)

    def _write_uniform(self, train: UniformBatch) -> int:
        """Write its frames, which fit their headers; how many the kernel took before one failed."""
        fd, write = self._fd, os.write
        taken = 0
        if self._down:
            return taken
        with suppress(OSError):
            for data in train.datas:
                write(fd, data)
                taken += 1
        return taken

    def _write_offload(self, frame: OffloadFrame, offsets: Offsets | DropReason) -> None:
        data = frame.data
        if offsets is DropReason.OVER_MTU and self._look_at_mtu():
            offsets = validate(data, self.mtu)
        if isinstance(offsets, DropReason):
            self.send_drops[offsets] += 1
        elif frame.kind not in self._kinds or (offsets.payload == 0 and frame.is_super):
            # One segment that was announced as several is what the kernel drops.
            self._write_segments(frame, offsets)
        else:
            try:
                os.write(self._fd, data)
            except OSError as exc:
                if exc.errno == EINVAL:
                    if frame.is_super:
                        self._accept_less(frame)
                    self._write_segments(frame, offsets)
                else:
                    self._write_failed(exc, frame)
            else:
                if self._down:
                    self._is_up()

    def _write_segments(self, frame: OffloadFrame, offsets: Offsets) -> None:
        self.segmented += 1
        for piece in segment(frame, offsets):
            try:
                os.writev(self._fd, (PLAIN_HEADER, piece))
            except OSError as exc:
                self._write_failed(exc, piece)

    def _accept_less(self, frame: OffloadFrame) -> None:
        """The kernel refuses what it said it had: from now on that is done here."""
        checksum_only = frame.kind in header_kinds(Offload.CSUM)
        self.accepts = NO_OFFLOADS if checksum_only else Offload.CSUM
        self._kinds = header_kinds(self.accepts)
        log.warning(
            "%s: the kernel refuses frames of more than one segment; they are cut here from now on",
            self.name,
        )

    def _look_at_mtu(self) -> bool:
        """See which MTU the interface has now, which others may change; whether it is another."""
        mtu = tun.current_mtu(self.index)
        if mtu is None or mtu == self.mtu:
            return False
        self.mtu = mtu
        return True

    def _is_up(self) -> None:
        self._down = False
        log.info("%s is up again", self.name)

    def _write_failed(self, exc: OSError, frame: AnyFrame) -> None:
        if exc.errno == EIO:
            self.send_drops[DropReason.INTERFACE_DOWN] += 1
            if not self._down:
                self._down = True
                log.warning(
                    "%s is down; frames for it are dropped until: ip link set %s up",
                    self.name,
                    self.name,
                )
        elif exc.errno == EAGAIN:
            self.send_drops[DropReason.ENDPOINT_FULL] += 1
        elif len(frame) < ETHERNET_HEADER_SIZE:
            self.send_drops[DropReason.RUNT] += 1
        elif exc.errno in (EBADFD, ENODEV, ENXIO) or self._fd < 0:
            raise self._gone(exc) from exc
        else:
            self.send_drops[DropReason.ENDPOINT_REFUSED] += 1

    def _gone(self, exc: OSError) -> Exception:
        if self._fd < 0:
            return trio.ClosedResourceError(f"endpoint {self.name} was closed")
        if exc.errno == EBADFD:
            return EndpointGone(f"the interface {self.name} was deleted")
        return EndpointGone(f"the interface {self.name} fails: {exc.strerror}")

    def _raise_if_closed(self) -> None:
        if self._fd < 0:
            raise trio.ClosedResourceError(f"endpoint {self.name} was closed")

    async def set_mtu(self, mtu: int) -> bool:
        if mtu == self.mtu:
            await trio.lowlevel.checkpoint()
            return True
        if not self.made:
            await trio.lowlevel.checkpoint()
            return False
        await trio.to_thread.run_sync(netlink.set_mtu, self.index, mtu)
        self.mtu = mtu
        return True

    async def maintain(self) -> None:
        """Put the TAP back in its bridge when the bridge was deleted and perhaps made anew.

        Another MTU, which somebody gave it meanwhile, holds from here on.
        """
        await trio.lowlevel.checkpoint()
        self._look_at_mtu()
        if self.bridge is None:
            return
        try:
            index = socket.if_nametoindex(self.bridge)
        except OSError:
            index = None
        if index == self.bridge_index:
            return
        if index is None and not self._bridge_missing:
            # Whoever deleted it may be about to make it anew: let them, until the next call.
            self._bridge_missing = True
            log.warning("the bridge %s was deleted", self.bridge)
            return
        self._bridge_missing = False
        try:
            interface, _ = await trio.to_thread.run_sync(
                partial(netlink.set_up_tap, self.index, bridge=self.bridge)
            )
        except SetupError as exc:
            self.bridge_index = index
            log.warning("%s cannot be put back in the bridge: %s", self.name, exc)
        else:
            self.bridge_index = interface.master
            log.warning("put %s back in the bridge %s", self.name, self.bridge)

    async def aclose(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            trio.lowlevel.notify_closing(fd)
            os.close(fd)
        await trio.lowlevel.checkpoint()


async def open_tap(
    name: str | None, *, bridge: str | None = None, mtu: int | None = None
) -> TapEndpoint:
    """Open a TAP, bring it up, and put it in a bridge.

    Args:
        name: the interface's name; it is made if there is none.  None takes the first unused
            ``tapN``: one that an administrator made for this user, or else a new one.
        bridge: the bridge to join; it is made if there is none, and stays at the end.
        mtu: in bytes; None leaves it as it is.

    Raises:
        SetupError: it cannot be had, and why, and the command that helps.
    """
    # The kernel's side of this takes the RTNL lock, which can take long on a busy host.
    return await trio.to_thread.run_sync(partial(_open, name, bridge, mtu))


def _open(name: str | None, bridge: str | None, mtu: int | None) -> TapEndpoint:
    fd, actual, made = attach_unused(bridge) if name is None else attach(name, bridge)
    try:
        address = stable_mac(actual) if made else None
        index = socket.if_nametoindex(actual)
        interface, joined = netlink.set_up_tap(index, bridge=bridge, mtu=mtu, address=address)
        if joined is not None and not joined.is_up:
            log.warning(
                "the bridge %s is down; it carries nothing until: ip link set %s up", bridge, bridge
            )
        return TapEndpoint(fd, interface, made=made, bridge=bridge, fixed=mtu is not None)
    except OSError as exc:
        os.close(fd)
        raise SetupError(f"cannot set up the TAP {actual}: {exc.strerror}") from exc
    except BaseException:
        os.close(fd)
        raise
