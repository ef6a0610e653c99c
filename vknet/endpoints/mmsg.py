"""Many messages per system call: recvmmsg(2) and sendmmsg(2) of Linux, through ctypes.

A call of Python's socket module moves one message and costs about as much again as the system call
itself.  These functions move a list.  They never wait (MSG_DONTWAIT), keep nothing that they are
given, and return memory that is the caller's.

Each thread allocates the structures once and reuses them in every call:

    mmsghdr[CHUNK] -> iovec[CHUNK] -> receiving: one slot for each message, in one memory area
                                      sending: the frames of this call, joined

For each message the kernel writes back its length and its flags.  Strided views over the array of
mmsghdr read those of a whole chunk at once, so the only work in Python for each message is to copy
it out of its slot.
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
"""The maximum number of messages per call.  It is large enough that the fixed cost of a call (3 us)
is small, and small enough that the slots of a thread take at most 4 MB."""

# Plain integers: combining members of socket's enumeration takes half a microsecond.
NO_WAIT: Final = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
TRUNCATED: Final = int(socket.MSG_TRUNC)


class _Msghdr(ctypes.Structure):
    """struct msghdr of recvmsg(2), as in the kernel; glibc's and musl's have the same layout."""

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
    """struct mmsghdr of recvmmsg(2)."""

    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint32))


class _Iovec(ctypes.Structure):
    """struct iovec of readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _words(structures: ctypes.Array[Any], code: Literal["I", "L"]) -> memoryview[int]:
    """View the memory of an array of structures as integers of this type code of `array`."""
    return memoryview(structures).cast("B").cast(code)


class _Vector:
    """An mmsghdr and an iovec for each message of a chunk, and views of their variable fields."""

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


class _Buffers:
    """The functions and the memory that the calls of one thread use, one after the other."""

    def __init__(self) -> None:
        # PyDLL keeps the GIL.  Releasing it takes as long as the call, which never waits.
        libc = ctypes.PyDLL(None, use_errno=True)
        number, pointer, count = ctypes.c_int, ctypes.c_void_p, ctypes.c_uint
        self.recvmmsg = libc.recvmmsg
        self.recvmmsg.argtypes = [number, pointer, count, number, pointer]
        self.sendmmsg = libc.sendmmsg
        self.sendmmsg.argtypes = [number, pointer, count, number]
        self.outgoing = _Vector()
        self.incoming = _Vector()
        # MAP_PRIVATE: after a fork each process has its own copy.  The slots are not aligned to
        # pages, because the start of every slot would then map to the same few cache lines.
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.slots = mmap.mmap(-1, CHUNK * LONGEST_FRAME, flags=private)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.slots))
        self.starts = range(0, CHUNK * LONGEST_FRAME, LONGEST_FRAME)
        self.incoming.bases[:] = array("L", [start + slot for slot in self.starts])
        self.incoming.sizes[:] = array("L", [LONGEST_FRAME] * CHUNK)


_threads = threading.local()


def _thread_buffers() -> _Buffers:
    try:
        return cast("_Buffers", _threads.buffers)
    except AttributeError:
        buffers = _threads.buffers = _Buffers()
        return buffers


def receive_messages(fd: int, limit: int) -> tuple[list[bytes], int]:
    """Take the messages that wait on a socket, in order.

    At the end of a connection the kernel delivers messages of zero bytes, as many as asked for.

    Args:
        fd: of the socket.
        limit: the maximum number of messages; more than `CHUNK` means `CHUNK`.

    Returns:
        The messages of at most LONGEST_FRAME bytes, and the number of longer ones, which are
        dropped.  Together they are at least one.

    Raises:
        BlockingIOError: no message is waiting.
        OSError: as recvmsg(2), for the first message.  An error at a later one is raised by the
            next call.
    """
    buffers = _thread_buffers()
    vector = buffers.incoming
    limit = min(limit, CHUNK)
    while (count := buffers.recvmmsg(fd, vector.address, limit, NO_WAIT, None)) < 0:
        _raise_unless_interrupted()
    slots = buffers.slots
    lengths = vector.lengths[:count].tolist()
    messages = [slots[at : at + size] for at, size in zip(buffers.starts, lengths, strict=False)]
    flags = vector.flags[:count].tolist()
    if not any(flags):
        return messages, 0
    whole = [m for m, flag in zip(messages, flags, strict=True) if not flag & TRUNCATED]
    return whole, count - len(whole)


def send_messages(fd: int, frames: Sequence[Frame]) -> int:
    """Send the first of these frames, in order, each as one message, with one system call.

    One call sends at most `CHUNK` frames, and BATCH_BYTES bytes unless the first frame is longer.

    Args:
        fd: of the socket.
        frames: at least one.

    Returns:
        The number of frames sent, at least 1.

    Raises:
        BlockingIOError: there is no room for the first frame.
        OSError: as sendmsg(2), for the first frame.  An error at a later one is raised by the call
            that begins with it.
    """
    buffers = _thread_buffers()
    vector = buffers.outgoing
    frames = frames[:CHUNK]
    sizes = array("L", map(len, frames))
    if sum(sizes) > BATCH_BYTES:
        # Frames that the socket does not take are joined again by the next call.
        count = max(1, bisect_right(list(accumulate(sizes)), BATCH_BYTES))
        frames, sizes = frames[:count], sizes[:count]
    count = len(sizes)
    joined = b"".join(frames)
    start = ctypes.c_void_p.from_buffer(ctypes.c_char_p(joined)).value
    vector.bases[:count] = array("L", accumulate(sizes[:-1], initial=start))
    vector.sizes[:count] = sizes
    while (sent := buffers.sendmmsg(fd, vector.address, count, NO_WAIT)) < 0:
        _raise_unless_interrupted()
    return int(sent)


def _raise_unless_interrupted() -> None:
    number = ctypes.get_errno()
    if number != EINTR:
        raise OSError(number, os.strerror(number))
