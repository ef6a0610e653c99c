"""A kernel in user space: User-mode Linux, with one interface, `vec0`, on a switch's socket.

It is Debian's `linux.uml`.  Its root file system is a directory on hostfs that holds busybox and
nothing else, so it needs no image, no module and no privilege.  `vec0` is a client of the switch:
one frame per message on a SOCK_SEQPACKET socket, which the kernel calls transport=bess
(arch/um/drivers/vector_user.c).

The kernel is the first process of its own pid namespace.  Its helpers and the processes inside it
are processes of the host too.  They would outlive a killed kernel, but the namespace ends them.

A test talks to it through files and the console.  A command is a file in the directory `commands`
of the root.  The test writes the number of the file to the console; init runs the file, writes its
output to a file beside it, and prints the number and the exit status on the console.
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

BOOT_TIMEOUT_S: Final = 60.0

# About one boot in 200 ends in a kernel panic, because init cannot fork (EAGAIN); no limit is near.
# It also happens to a kernel without a network.
BOOT_ATTEMPTS: Final = 3

# The memory of the kernel is an unlinked file in this directory.  It needs a tmpfs without noexec,
# such as /run of the host.  /dev/shm may be too small, and /tmp is often not a tmpfs.
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
    """A User-mode Linux on a host.  The constructor starts the boot; the host kills it at its end.

    Args:
        host: where it runs.
        switch: path of the socket that the switch listens on.
        address: of its interface, with the prefix length: 198.18.5.1/24.
        user: who runs it; root if None.

    Attributes:
        address: of its interface, without the prefix length.
        root: the directory that is its root, as the host sees it.
        process: the process that ends when the kernel ends; killing it ends the kernel.
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
        """Wait for the boot, and connect `vec0` to the switch, which has to listen by then.

        A panic during the boot is not a failure of vknet: the kernel boots again, `BOOT_ATTEMPTS`
        times in all.

        Returns:
            Itself.

        Raises:
            AssertionError: it did not boot; the message has its console.
        """
        for boots_left in reversed(range(BOOT_ATTEMPTS)):
            panic = "|^Kernel panic" if boots_left else ""
            line = self._wait_for(f"^uml: ready${panic}", "its boot", BOOT_TIMEOUT_S)
            if line[0] == "uml: ready":
                break
            self.kill()
            self.process = self._start()
        self.run(f"ip link set lo up; ip addr add {self._interface} dev vec0; ip link set vec0 up")
        return self

    def plug_in_again(self) -> None:
        """Connect to a switch that has restarted and listens.

        The driver does not reconnect by itself: it reports nothing, keeps the carrier on, and polls
        the dead socket without a pause.  Never set the interface up while no program listens on the
        socket: it cannot be opened again after that (`vector_net_open`: ENXIO).
        """
        self.run("ip link set vec0 down; ip link set vec0 up")

    @property
    def console(self) -> str:
        """Everything that the console has shown so far."""
        return self._console.read_text(errors="replace").replace("\r", "")

    def run(
        self, script: str, check: bool = True, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside, and wait for its end.

        Args:
            script: for busybox's sh; -e is set.
            check: whether a status other than 0 is an error.
            timeout: in seconds.

        Returns:
            Its status, and its output, with stderr in it.

        Raises:
            AssertionError: it did not end in time, or it failed and `check` is set; the message has
                its output and the console.
        """
        number = next(self._commands)
        path = self.root / "commands" / str(number)
        path.write_text(f"set -e\n{script}\n")
        if self.process.stdin is None:
            raise AssertionError("stdin is a pipe")
        # A kernel that has ended is reported below.
        with contextlib.suppress(BrokenPipeError):
            os.write(self.process.stdin.fileno(), f"{number}\n".encode())
        ended = rf"^uml: command {number} ended with status (\d+)$"
        status = int(self._wait_for(ended, script, timeout)[1])
        output = path.with_suffix(".output").read_text(errors="replace")
        if check and status:
            raise AssertionError(
                f"{self}: {script}: status {status}\n{output}\nits console:\n{self.console}"
            )
        return subprocess.CompletedProcess(script, status, output)

    def output(self, script: str) -> str:
        """Run a shell script, which has to succeed; return what it prints."""
        return self.run(script).stdout

    def reaches(self, address: str) -> bool:
        """Whether this address answers one ping within a second."""
        return self.run(f"ping -c 1 -W 1 {address}", check=False).returncode == 0

    def kill(self) -> None:
        """Kill it, and wait until all of its processes have ended."""
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
        # Root creates the namespace.  A change of user clears PDEATHSIG, so it is set again.
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
                # Kept open: at end of file the console hangs up.
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
            )

    def _wait_for(self, pattern: str, what: str, within: float) -> re.Match[str]:
        """Wait until a line of the console matches; return the match."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.console, re.MULTILINE)

        try:
            eventually(lambda: self.process.poll() is not None or found(), what, within)
        except AssertionError as exc:
            raise AssertionError(f"{self}: {exc}\nits console:\n{self.console}") from None
        match = found()
        if match is None:
            raise AssertionError(f"{self} ended before {what}\nits console:\n{self.console}")
        return match
