"""A kernel in user space: User-mode Linux, with its first interface on a switch's socket.

It is Debian's `linux.uml` with a root of its own on hostfs, which holds busybox and nothing else:
no image, no module, no right beyond what its user has.  `vec0` is a client of the switch, one frame
a message of SOCK_SEQPACKET, which the kernel calls transport=bess (arch/um/drivers/vector_user.c).

It has its own pid namespace, of which it is the first process: its helpers and what runs inside it
are processes of their own, which would outlive it when it is killed, but not the namespace.

A test talks to it by files and over its console.  A command is a file in the folder `commands` of
the root; its number goes over the console to init, which runs it with its output in a file beside
it, and says the number and the status on the console when it has ended.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING, Final

from testbed.host import USER_ID, eventually

if TYPE_CHECKING:
    from testbed.host import Host

__all__ = ["Uml"]

_numbers = itertools.count(1)

BUSYBOX: Final = Path("/bin/busybox")

BOOTS_WITHIN: Final = 60.0
# About one boot of 200 ends with init unable to fork (EAGAIN), with no limit near, and the kernel's
# panic; also of the kernel on its own, without a network.
BOOTS_AT_MOST: Final = 3

# The kernel's memory is a file there, unlinked at once.  It has to be on a tmpfs with exec, as the
# host's own /run is; /dev/shm may be too small, and /tmp is often no tmpfs.
MEMORY_DIRECTORY: Final = "/run/uml"
MEMORY: Final = "64M"

INIT: Final = """\
#!/bin/busybox sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
stty -echo
echo "uml: ready"
while read -r number; do
    sh "/commands/$number" </dev/null >"/commands/$number.output" 2>&1
    echo "uml: command $number ended with status $?"
done
"""


class Uml:
    """A User-mode Linux on a host.  The constructor starts its boot; it ends with the host.

    Args:
        host: where it runs.
        switch: path of the socket that the switch listens on.
        address: of its interface, with the length of the prefix: 198.18.5.1/24.
        user: as whom it runs; root if None.

    Attributes:
        address: of its interface, without the prefix.
        root: the directory that is its root, as the host sees it.
        process: its end is the kernel's, and the other way round.
    """

    def __init__(self, host: Host, switch: Path, address: str, user: str | None = None) -> None:
        self.host = host
        self._interface = IPv4Interface(address)
        self.address = str(self._interface.ip)
        directory = host.directory / f"uml-{next(_numbers)}"
        self.root = directory / "root"
        self._console = directory / "console"
        self._commands = itertools.count(1)
        self._make_root()
        if user is not None:
            for path in (directory, *directory.rglob("*")):
                os.chown(path, USER_ID, USER_ID, follow_symlinks=False)
        mac = "02:00:" + self._interface.ip.packed.hex(":")
        self._vec0 = f"vec0:transport=bess,dst={switch},mac={mac}"
        self._user = user
        self.process = self._start()

    def up(self) -> Uml:
        """Wait until it has booted, and plug it into the switch, which has to listen by then.

        A kernel that panics before it is up says nothing of what it is here to show: it is booted
        anew, a few times at most.

        Returns:
            Itself.

        Raises:
            AssertionError: it did not come up; with what is on its console.
        """
        for boots_left in reversed(range(BOOTS_AT_MOST)):
            panics = "|^Kernel panic" if boots_left else ""
            if self._wait_for(f"^uml: ready${panics}", "its boot", BOOTS_WITHIN)[0] == "uml: ready":
                break
            self.kill()
            self.process = self._start()
        self.run(f"ip link set lo up; ip addr add {self._interface} dev vec0; ip link set vec0 up")
        return self

    def plug_in_again(self) -> None:
        """Connect to a switch that was started anew and listens.

        The driver does not do so by itself: it says nothing, its carrier stays on, and it polls the
        dead socket without a pause.  To set the interface up while nobody listens would be worse:
        after that it can never be opened again (`vector_net_open`: ENXIO).
        """
        self.run("ip link set vec0 down; ip link set vec0 up")

    @property
    def console(self) -> str:
        """All that was on its console so far."""
        return self._console.read_text(errors="replace").replace("\r", "")

    def run(
        self, script: str, check: bool = True, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside, to its end.

        Args:
            script: for busybox's sh, with -e.
            check: whether a status other than 0 is an error.
            timeout: in seconds.

        Returns:
            Its status, and what it printed, stderr included.

        Raises:
            AssertionError: it did not end, or it failed and `check` is set; with what it printed
                and what is on the console.
        """
        number = next(self._commands)
        path = self.root / "commands" / str(number)
        path.write_text(f"set -e\n{script}\n")
        if self.process.stdin is None:
            raise AssertionError("asked for as a pipe")
        # If it has ended, that is found out and said below.
        with contextlib.suppress(BrokenPipeError):
            os.write(self.process.stdin.fileno(), f"{number}\n".encode())
        ended = rf"^uml: command {number} ended with status (\d+)$"
        status = int(self._wait_for(ended, script, timeout)[1])
        output = path.with_suffix(".output").read_text(errors="replace")
        if check and status:
            raise AssertionError(
                f"{self}: {script}: status {status}\n{output}\non its console:\n{self.console}"
            )
        return subprocess.CompletedProcess(script, status, output)

    def output(self, script: str) -> str:
        """What a shell script prints, which has to succeed."""
        return self.run(script).stdout

    def reaches(self, address: str) -> bool:
        """Whether one ping to this address is answered within a second."""
        return self.run(f"ping -c 1 -W 1 {address}", check=False).returncode == 0

    def kill(self) -> None:
        """Pull its plug, and wait until nothing of it is left."""
        self.process.kill()
        self.process.wait()
        eventually(lambda: not self.host.processes(str(self.root)), f"the end of {self}")

    def __str__(self) -> str:
        return f"the kernel {self.address} on {self.host.name}"

    def _make_root(self) -> None:
        for name in ("bin", "commands", "dev", "proc", "sys", "tmp"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, self.root / "bin/busybox")
        applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
        for name in set(applets.stdout.split()) - {"busybox"}:
            (self.root / "bin" / name).symlink_to("busybox")
        init = self.root / "init"
        init.write_text(INIT)
        init.chmod(0o755)

    def _start(self) -> subprocess.Popen[bytes]:
        self.host.run("mkdir", "-p", "-m", "1777", MEMORY_DIRECTORY)
        # Root makes the namespace; after the change of user, death has to be arranged anew.
        become = ["setpriv", "--pdeathsig", "KILL"]
        if self._user is not None:
            become += [f"--reuid={USER_ID}", f"--regid={USER_ID}", "--init-groups"]
        with self._console.open("wb") as console:
            return self.host.start(
                *("unshare", "--pid", "--fork", "--kill-child", *become),
                *("linux.uml", f"mem={MEMORY}", "quiet", f"uml_dir={MEMORY_DIRECTORY}"),
                *("rootfstype=hostfs", f"rootflags={self.root}", "rw", "init=/init"),
                *("con=null", "con0=fd:0,fd:1", self._vec0),
                env={"TMPDIR": MEMORY_DIRECTORY},
                # Kept open: at its end the console would hang up.
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
            )

    def _wait_for(self, pattern: str, what: str, within: float) -> re.Match[str]:
        """Wait for a line on the console."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.console, re.MULTILINE)

        try:
            eventually(lambda: self.process.poll() is not None or found(), what, within)
        except AssertionError as exc:
            raise AssertionError(f"{self}: {exc}\non its console:\n{self.console}") from None
        match = found()
        if match is None:
            raise AssertionError(f"{self} ended before {what}\non its console:\n{self.console}")
        return match
