"""An endpoint on a TAP interface, as in the kernel's Documentation/networking/tuntap.rst.

The code relies on these properties, seen on Linux 6.18 unless a version is given:

* The kernel deletes a TAP that vknet created when its descriptor is closed, also when the process
  is killed.  A TAP that existed before (a persistent one) stays, with the settings made on it.
* An offload header (`vknet.packet.virtio`) precedes every frame, read or written, and the frame may
  be a super-frame.  TUNSETOFFLOAD limits only what is read.  Some kernels refuse to write
  super-frames with EINVAL although they support them (6.1.103, 6.6.44, 6.10.3).
* While the interface is down, a write fails with EIO, and a read finds nothing.  After it was
  deleted, poll reports EPOLLERR, and read and write fail with EBADFD.
* If no program reads, the kernel drops new frames once txqueuelen frames are queued.
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
from vknet.endpoints.bridge_port import BridgePort, report_joined
from vknet.endpoints.interface import read_interface
from vknet.endpoints.joining import set_up_tap
from vknet.endpoints.tap_attach import open_named, open_unused, refuse_macvtap, stable_mac
from vknet.endpoints.threads import run_in_thread
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

    from vknet.endpoints.interface import Interface
    from vknet.packet.ethernet import Frame
    from vknet.packet.virtio import AnyFrame, Offsets

__all__ = ["TapEndpoint", "open_tap"]

log = logging.getLogger(__name__)

READ_BYTES: Final = VNET_HEADER_SIZE + LONGEST_FRAME


class TapEndpoint(Endpoint):
    """An endpoint on a TAP, opened by `open_tap`; it owns the descriptor and closes it.

    Attributes:
        index: the index of the interface.
        created: vknet created the interface, so the kernel deletes it when the endpoint is closed.
        segmented: the number of sent offload frames that were finished in software.
    """

    def __init__(
        self,
        fd: int,
        interface: Interface,
        port: BridgePort,
        *,
        created: bool,
        mtu_fixed: bool,
    ) -> None:
        super().__init__(
            interface.name,
            interface.mtu,
            mtu_fixed=mtu_fixed or not created or port.has_bridge_mtu,
        )
        self.index = interface.index
        self.created = created
        self._port = port
        self.macs = port.macs
        self._fd = fd
        self._down = False
        self._capabilities = tun.capabilities(fd)
        self.accepts = self._capabilities
        self._kinds = header_kinds(self.accepts)
        self.segmented = 0

    @property
    def bridge(self) -> str | None:
        """The name of the bridge that the TAP was put in and is kept in; None if none."""
        return self._port.bridge

    @property
    def bridge_index(self) -> int | None:
        """The index of its bridge; None if it is not a port.

        A bridge that is deleted and created again has another one.
        """
        return self._port.bridge_index

    def on_new_stations(self) -> None:
        self._port.on_new_stations()

    async def set_offload(self, offloads: Offload) -> None:
        if self._fd < 0:
            await trio.lowlevel.checkpoint()
            return
        # In a thread: the ioctl takes the RTNL lock, which another process may hold for seconds.
        wanted = self._capabilities & offloads
        try:
            await trio.to_thread.run_sync(tun.set_offloads, self._fd, wanted)
        except OSError as exc:
            # Nothing has changed then.  If the TAP was deleted, the next read raises.
            log.debug("%s: cannot change the offloads: %s", self.name, exc.strerror)

    def receive_nowait(self) -> list[Frame]:
        return plain_frames(self.receive_offload_nowait(), self.receive_drops)

    def receive_offload_nowait(self, enough: int = BATCH_FRAMES) -> Sequence[AnyFrame]:
        raws: list[bytes] = []
        add, read, fd = raws.append, os.read, self._fd
        left = BATCH_BYTES
        try:
            for _ in range(enough):
                raw = read(fd, READ_BYTES)
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
        # A write to a TAP never waits.  `send` handles the first frame that fails.
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
                    self._note_up()

    async def send_batches(self, batches: Sequence[Sequence[AnyFrame]]) -> None:
        # A TAP never waits for room, so nothing has to be shared between the batches.
        for batch in batches:
            await self.send_offload(batch)

    def _write_uniform(self, batch: UniformBatch) -> int:
        """Write a validated batch; return the number of frames before the first that failed."""
        fd, write = self._fd, os.write
        written = 0
        if self._down:
            return written
        with suppress(OSError):
            for data in batch.datas:
                write(fd, data)
                written += 1
        return written

    def _write_offload(self, frame: OffloadFrame, offsets: Offsets | DropReason) -> None:
        data = frame.data
        if offsets is DropReason.OVER_MTU and self._refresh_mtu():
            offsets = validate(data, self.mtu)
        if isinstance(offsets, DropReason):
            self.send_drops[offsets] += 1
        elif frame.kind not in self._kinds or (offsets.payload == 0 and frame.is_super):
            # The kernel drops a super-frame that makes only one segment.
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
                    self._note_up()

    def _write_segments(self, frame: OffloadFrame, offsets: Offsets) -> None:
        self.segmented += 1
        for piece in segment(frame, offsets):
            try:
                os.writev(self._fd, (PLAIN_HEADER, piece))
            except OSError as exc:
                self._write_failed(exc, piece)

    def _accept_less(self, frame: OffloadFrame) -> None:
        """Stop writing frames of a kind that the kernel claimed to support and refuses."""
        checksum_only = frame.kind in header_kinds(Offload.CSUM)
        self.accepts = NO_OFFLOADS if checksum_only else Offload.CSUM
        self._kinds = header_kinds(self.accepts)
        log.warning(
            "%s: the kernel refuses multi-segment frames; vknet segments them from now on",
            self.name,
        )

    def _refresh_mtu(self) -> bool:
        """Read the MTU, which other programs may change; return whether it has changed."""
        mtu = tun.current_mtu(self.index)
        if mtu is None or mtu == self.mtu:
            return False
        self.mtu = mtu
        return True

    def _note_up(self) -> None:
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
        return EndpointGone(f"the interface {self.name} failed: {exc.strerror}")

    def _raise_if_closed(self) -> None:
        if self._fd < 0:
            raise trio.ClosedResourceError(f"endpoint {self.name} was closed")

    async def set_mtu(self, mtu: int) -> bool:
        if mtu == self.mtu:
            await trio.lowlevel.checkpoint()
            return True
        lowers_bridge = self._port.has_bridge_mtu and self.mtu is not None and mtu < self.mtu
        if not self.created or lowers_bridge:
            await trio.lowlevel.checkpoint()
            return False
        await run_in_thread(partial(netlink.set_mtu, self.index, mtu))
        self.mtu = mtu
        return True

    async def maintain(self) -> None:
        """Read the TAP's state again, and keep it in its bridge.

        If the TAP was deleted, it does nothing: receiving and sending raise EndpointGone.
        """
        state, master = await trio.to_thread.run_sync(
            _read_with_bridge, self.index, abandon_on_cancel=True
        )
        if state is not None:
            self.mtu = state.mtu
            await self._port.maintain(state, master)
            # The MTU of its bridge would fall with that of the TAP.
            self.mtu_fixed |= self._port.has_bridge_mtu
            self.macs = self._port.macs

    async def aclose(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            trio.lowlevel.notify_closing(fd)
            os.close(fd)
        await trio.lowlevel.checkpoint()


def _read_with_bridge(index: int) -> tuple[Interface | None, Interface | None]:
    tap = read_interface(index)
    return tap, None if tap is None or tap.master is None else read_interface(tap.master)


async def open_tap(
    name: str | None,
    *,
    bridge: str | None = None,
    mtu: int | None = None,
    device: str | None = None,
) -> TapEndpoint:
    """Open a TAP, bring it up, and put it in a bridge.

    Args:
        name: the interface's name; it is created if it does not exist.  None opens the first unused
            ``tapN``: one that an administrator created for this user, or else a new one.
        bridge: the bridge to join.  It is created if it does not exist, and stays when the endpoint
            is closed.
        mtu: in bytes; None leaves that of an existing TAP unchanged.  A new TAP then takes that of
            a bridge which has one of its own.
        device: the path that the user wrote instead of the name, such as ``/dev/tap0``; None if
            none.

    Returns:
        The endpoint, which the caller closes.

    Raises:
        SetupError: it cannot be opened; the message gives the cause and the command that helps.
    """
    # In a thread: the system calls take the RTNL lock, which another process may hold for seconds.
    return await run_in_thread(partial(_open, name, bridge, mtu, device))


def _open(name: str | None, bridge: str | None, mtu: int | None, device: str | None) -> TapEndpoint:
    if device is not None:
        refuse_macvtap(device)
    fd, actual, created = open_unused(bridge) if name is None else open_named(name, bridge)
    try:
        address = stable_mac(actual) if created else None
        index = socket.if_nametoindex(actual)
        adopts_mtu = created and mtu is None
        interface, joined = set_up_tap(
            index, bridge=bridge, mtu=mtu, address=address, adopt_mtu=adopts_mtu
        )
        if joined is not None:
            report_joined(interface, joined)
        port = BridgePort(interface, joined, keep=bridge is not None, adopts_mtu=adopts_mtu)
        return TapEndpoint(fd, interface, port, created=created, mtu_fixed=mtu is not None)
    except OSError as exc:
        os.close(fd)
        raise SetupError(f"cannot set up the TAP {actual}: {exc.strerror}") from exc
    except BaseException:
        os.close(fd)
        raise
