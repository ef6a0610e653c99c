"""The plain ssh pipe, the upper bound: one ssh connection with a writer and a reader at its ends.

On ``here`` they are threads of this process, which use blocks of 256 KB on pipes of 1 MB; on
``there`` they are cat(1).  The cipher is the fastest that OpenSSH offers on a machine with AES in
hardware.  The round trip is that of 64 bytes through ``cat``.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bench.measures import PING_INTERVAL_S, PINGS, Memories, Round, percentile, ssh_true, watch
from bench.processes import cpu_seconds, pids_now, pids_since
from testbed.hosts import Bed, eventually

if TYPE_CHECKING:
    from types import TracebackType

    from bench.figures import Figures

__all__ = ["pipe_round"]

CIPHER: Final = "aes128-gcm@openssh.com"
BLOCK: Final = bytes(256 * 1024)
PIPE_BYTES: Final = 1024 * 1024

SINK: Final = "exec cat >/dev/null"
SOURCE: Final = "exec cat /dev/zero"
BOTH: Final = "exec 3<&0; cat <&3 >/dev/null & exec cat /dev/zero"
ECHO: Final = "exec cat"

# The time in which the buffers fill, until the path limits the writer.
WARM_UP_S: Final = 0.5


class Pipe:
    """``ssh there COMMAND`` with pipes for stdin and stdout, for the time of a context.

    Attributes:
        written: bytes written to ssh so far.
        read: bytes read from ssh so far.
    """

    def __init__(self, bed: Bed, command: str) -> None:
        self.bed = bed
        self.argv = ("ssh", "-T", "-c", CIPHER, "there", command)
        self._before = pids_now(bed)
        self._ssh = bed.here.start(*self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._ssh.stdin is None or self._ssh.stdout is None:
            raise AssertionError("stdin and stdout are pipes")
        self._in = self._ssh.stdin.fileno()
        self._out = self._ssh.stdout.fileno()
        for fd in (self._in, self._out):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._threads: list[threading.Thread] = []
        self.written = 0
        self.read = 0

    def __enter__(self) -> Pipe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ssh.kill()
        self._ssh.wait()
        for thread in self._threads:
            thread.join()
        eventually(self._has_ended, "the end of the ssh session")

    def _has_ended(self) -> bool:
        return not any(pids_since(self.bed, self._before).values())

    def flood(self, *, write: bool, read: bool) -> None:
        """Start to write zeros, or to read, or both, until ssh ends; the bytes are counted."""
        for wanted, work in ((write, self._write), (read, self._read)):
            if wanted:
                self._threads.append(threading.Thread(target=work, daemon=True))
                self._threads[-1].start()

    def _write(self) -> None:
        with suppress(BrokenPipeError):
            while True:
                self.written += os.write(self._in, BLOCK)

    def _read(self) -> None:
        buffer = [bytearray(len(BLOCK))]
        while count := os.readv(self._out, buffer):
            self.read += count

    def echo(self) -> float:
        """Send 64 bytes through ``cat``; return the seconds until they are back."""
        began = time.monotonic()
        left = os.write(self._in, BLOCK[:64])
        while left:
            left -= len(os.read(self._out, left))
        return time.monotonic() - began

    def measure(self, seconds: float) -> tuple[int, float]:
        """Return the bytes of `seconds` of steady flow, and the CPU seconds of ssh and sshd."""
        if self._threads:
            eventually(lambda: self.written + self.read, "the first bytes")
            time.sleep(WARM_UP_S)
        pids = pids_since(self.bed, self._before, ("ssh", "sshd"))
        start = self.written + self.read
        before = cpu_seconds(pids)
        time.sleep(seconds)
        return self.written + self.read - start, cpu_seconds(pids) - before

    def memory(self, seconds: float) -> Memories:
        """Sample the memory of ssh and sshd for `seconds`."""
        pids = pids_since(self.bed, self._before, ("ssh", "sshd"))
        deadline = time.monotonic() + seconds
        return watch(pids, lambda: time.monotonic() < deadline, seconds + 1)


def pipe_round(bed: Bed, seconds: float, load: float) -> Round:
    """Measure a plain ssh pipe; the arguments are those of `bench.measures.tunnel_round`."""
    base = ssh_true(bed)
    began = time.monotonic()
    with Pipe(bed, ECHO) as pipe:
        pipe.echo()
        first = time.monotonic() - began
        times = []
        for _ in range(PINGS):
            times.append(1e3 * pipe.echo())
            time.sleep(PING_INTERVAL_S)
    with Pipe(bed, SINK) as pipe:
        command = " ".join(pipe.argv)
        pipe.flood(write=True, read=False)
        there, cpu_there = pipe.measure(seconds)
    with Pipe(bed, SOURCE) as pipe:
        pipe.flood(write=False, read=True)
        here, cpu_here = pipe.measure(seconds)
    with Pipe(bed, BOTH) as pipe:
        pipe.flood(write=True, read=True)
        both, _ = pipe.measure(seconds)
        memory = pipe.memory(load) if load else {}
    figures: Figures = {
        "first_ping": first,
        "over_ssh_true": first - base,
        "rtt_p50": percentile(times, 50),
        "rtt_p99": percentile(times, 99),
        "tcp_there": 8e-6 * there / seconds,
        "tcp_here": 8e-6 * here / seconds,
        "tcp_both": 8e-6 * both / seconds,
        "cpu_per_gb": (cpu_there + cpu_here) / (1e-9 * (there + here)),
    }
    return Round(figures, memory, [command])
