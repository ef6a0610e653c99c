"""Many messages a system call: recvmmsg(2) and sendmmsg(2) of Linux, by ctypes.

A call of Python's socket module moves one message, and costs about as much again as the kernel's
part in it.  These two move a list.  Both only ever try (MSG_DONTWAIT), neither keeps anything of
what it was given, and what they return is the caller's.

The structures are laid out once a thread, and every call uses them again:

    mmsghdr[CHUNK] -> iovec[CHUNK] -> receiving: a slot each in one area of memory
                                      sending: the frames of this call, joined

What the kernel writes back of a message is its length and its flags.  Views that step from one
mmsghdr to the next read those of a whole chunk at once, so that nothing here is done in Python for
each message but to take its bytes out of its slot.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import threading
from array import array
from bisect import bisect_right
from errno import EINTR
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from vknet.packet.ethernet import BATCH_BYTES, LONGEST_FRAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vknet.packet.ethernet import Frame

__all__ = ["CHUNK", "receive_messages", "send_messages"]

CHUNK: Final = 64
"""Messages a call, at the most: the 3 us that surround a call are little beside so many, and what
the slots take of memory, 4 MB a thread if the longest messages come, is little as well."""


# Plain numbers: to combine members of socket's enumeration takes half a microsecond.
TRY: Final = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
CUT: Final = int(socket.MSG_TRUNC)


class _Msghdr(ctypes.Structure):
    """recvmsg(2), as the kernel has it; glibc's and musl's are the same in memory."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
    )


class _Mmsghdr(ctypes.Structure):
    """recvmmsg(2)."""

    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint32))


class _Iovec(ctypes.Structure):
    """readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _words(structures: ctypes.Array[Any], code: Literal["I", "L"]) -> memoryview[int]:
    """The memory of an array of structures as numbers, `code` being those of `array`."""
    return memoryview(structures).cast("B").cast(code)


class _Layout:
    """An mmsghdr and an iovec for each message of a chunk, and views of what changes in them."""

    def __init__(self) -> None:
        self._messages = (_Mmsghdr * CHUNK)()
        self._iovecs = (_Iovec * CHUNK)()
        iovecs = ctypes.addressof(self._iovecs)
        for number, message in enumerate(self._messages):
            message.header.iov = iovecs + number * ctypes.sizeof(_Iovec)
            message.header.iov_count = 1
        self.address: Final = ctypes.addressof(self._messages)
        words = _words(self._messages, "I")
        step = ctypes.sizeof(_Mmsghdr) // words.itemsize
        self.lengths: Final = words[_Mmsghdr.length.offset // words.itemsize :: step]
        flags = _Mmsghdr.header.offset + _Msghdr.flags.offset
        self.flags: Final = words[flags // words.itemsize :: step]
        pairs = _words(self._iovecs, "L")
        self.bases: Final = pairs[0::2]
        self.sizes: Final = pairs[1::2]


class _Scratch:
    """What the calls of one thread use, one after the other."""

    def __init__(self) -> None:
        # Calls that never wait need not let other threads run meanwhile, which takes as long again.
        libc = ctypes.PyDLL(None, use_errno=True)
        number, pointer, count = ctypes.c_int, ctypes.c_void_p, ctypes.c_uint
        self.recvmmsg = libc.recvmmsg
        self.recvmmsg.argtypes = [number, pointer, count, number, pointer]
        self.sendmmsg = libc.sendmmsg
        self.sendmmsg.argtypes = [number, pointer, count, number]
        self.outgoing = _Layout()
        self.incoming = _Layout()
        # Private: after a fork each side has its own.  Slots are not aligned to pages, where the
        # heads of all of them would meet in the same few lines of the cache.
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.slots = mmap.mmap(-1, CHUNK * LONGEST_FRAME, flags=private)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.slots))
        self.starts = range(0, CHUNK * LONGEST_FRAME, LONGEST_FRAME)
        self.incoming.bases[:] = array("L", [start + slot for slot in self.starts])
        self.incoming.sizes[:] = array("L", [LONGEST_FRAME] * CHUNK)


_threads = threading.local()


def _scratch() -> _Scratch:
    try:
        return cast("_Scratch", _threads.scratch)
    except AttributeError:
        scratch = _threads.scratch = _Scratch()
        return scratch


def receive_messages(fd: int, limit: int) -> tuple[list[bytes], int]:
    """Take the messages that wait on a socket, in order, up to `limit` or `CHUNK` of them.

    At the end of a connection it takes messages of no bytes, as many as it was asked for.

    Returns:
        At least one message; and how many were longer than LONGEST_FRAME, which are not among them.

    Raises:
        BlockingIOError: none is waiting.
        OSError: as recvmsg(2), for the first message; when it is a later one's, the next call
            raises it.
    """
    scratch = _scratch()
    layout = scratch.incoming
    limit = min(limit, CHUNK)
    while (count := scratch.recvmmsg(fd, layout.address, limit, TRY, None)) < 0:
        _raise_unless_interrupted()
    slots = scratch.slots
    lengths = layout.lengths[:count].tolist()
    messages = [slots[at : at + size] for at, size in zip(scratch.starts, lengths, strict=False)]
    flags = layout.flags[:count].tolist()
    if not any(flags):
        return messages, 0
    whole = [m for m, flag in zip(messages, flags, strict=True) if not flag & CUT]
    return whole, count - len(whole)


def send_messages(fd: int, frames: Sequence[Frame]) -> int:
    """Send frames as messages, in order, as many of the first ones as make one call.

    Args:
        fd: of the socket.
        frames: at least one.

    Returns:
        How many were taken, at least one.

    Raises:
        BlockingIOError: there is no room for the first.
        OSError: as sendmsg(2), for the first; when it is a later one's, that one will be the first
            of the next call.
    """
    scratch = _scratch()
    layout = scratch.outgoing
    frames = frames[:CHUNK]
    sizes = array("L", map(len, frames))
    if sum(sizes) > BATCH_BYTES:
        # What did not fit is joined anew the next time: not too much of it at once.
        count = max(1, bisect_right(list(accumulate(sizes)), BATCH_BYTES))
        frames, sizes = frames[:count], sizes[:count]
    count = len(sizes)
    joined = b"".join(frames)
    start = ctypes.c_void_p.from_buffer(ctypes.c_char_p(joined)).value
    layout.bases[:count] = array("L", accumulate(sizes[:-1], initial=start))
    layout.sizes[:count] = sizes
    while (sent := scratch.sendmmsg(fd, layout.address, count, TRY)) < 0:
        _raise_unless_interrupted()
    return int(sent)


def _raise_unless_interrupted() -> None:
    number = ctypes.get_errno()
    if number != EINTR:
        raise OSError(number, os.strerror(number))
