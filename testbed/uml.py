"""A kernel in user space: User-mode Linux, with its first interface on a switch's socket.

It is Debian's `linux.uml` with a root of its own on hostfs, which holds busybox and nothing else:
no image, no module, no right beyond what its user has.  `vec0` is a client of the switch, one frame
a message of SOCK_SEQPACKET, which the kernel calls transport=bess (arch/um/drivers/vector_user.c).

It has its own pid namespace, of which it is the first process: its helpers and what runs inside it
are processes of their own that outlive it when it is killed, but not the namespace.

A test talks to it by files and over its console.  A command is a file in the folder `commands` of
the root; its number goes over the console to init, which runs it with its output in a file beside
it, and names the number and the status on the console when it has ended.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING, Final

from testbed.hosts import USER_ID, eventually

if TYPE_CHECKING:
    from testbed.hosts import Host

__all__ = ["Uml"]

_numbers = itertools.count(1)

BUSYBOX: Final = Path("/bin/busybox")

BOOTS_WITHIN: Final = 60.0

# A tmpfs with exec, as the host has it at /run; /dev/shm may be small, and /tmp no tmpfs at all.
# The kernel's memory is a file there, unlinked at once.
MEMORY_DIRECTORY: Final = "/run/uml"
MEMORY: Final = "64M"

INIT: Final = """\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t tmpfs tmpfs /tmp
/bin/busybox stty -echo
echo "uml: ready"
while read -r number; do
    sh "/commands/$number" </dev/null >"/commands/$number.output" 2>&1
    echo "uml: command $number ended with status $?"
done
"""


class Uml:
    """A User-mode Linux on a host, booted and with its address; it ends with the host.

    Args:
        host: where it runs.
        switch: path of the socket that the switch listens on.
        address: of its interface, with the length of the prefix: 198.18.5.1/24.
        user: as whom it runs; root if None.

    Attributes:
        address: of its interface, without the prefix.
        root: the directory that is its root, as the host sees it.
        process: ends when it does; to kill it leaves nothing of it behind.

    Raises:
        AssertionError: it did not come up; with what is on its console.
    """

    def __init__(self, host: Host, switch: Path, address: str, user: str | None = None) -> None:
        interface = IPv4Interface(address)
        self.host = host
        self.address = str(interface.ip)
        self.directory = host.directory / f"uml-{next(_numbers)}"
        self.root = self.directory / "root"
        self._console = self.directory / "console"
        self._commands = itertools.count(1)
        self._make_root()
        if user is not None:
            for path in (self.directory, *self.directory.rglob("*")):
                os.chown(path, USER_ID, USER_ID, follow_symlinks=False)
        host.run("mkdir", "-p", "-m", "1777", MEMORY_DIRECTORY)
        mac = "02:00:" + interface.ip.packed.hex(":")
        self.process = self._boot(f"vec0:transport=bess,dst={switch},mac={mac}", user)
        self._wait_for(r"^uml: ready", "its boot", BOOTS_WITHIN)
        self.run(
            f"ip link set lo up && ip addr add {interface} dev vec0 && ip link set vec0 up"
        )

    @property
    def console(self) -> str:
        """All that was on its console so far."""
        return self._console.read_text(errors="replace").replace("\r", "")

    def run(self, script: str, check: bool = True, timeout: float = 30.0) -> tuple[int, str]:
        """Run a shell script inside, to its end.

        Args:
            script: for busybox's sh; what it leaves in the background must not keep its output.
            check: whether a status other than 0 is an error.
            timeout: in seconds.

        Returns:
            Its status, and what it printed, on stdout and stderr.

        Raises:
            AssertionError: it did not end, or it failed and `check` is set.
        """
        number = next(self._commands)
        path = self.root / "commands" / str(number)
        path.write_text(f"{script}\n")
        if self.process.stdin is None:
            raise AssertionError("asked for as a pipe")
        self.process.stdin.write(f"{number}\n".encode())
        self.process.stdin.flush()
        ended = rf"^uml: command {number} ended with status (\d+)$"
        status = int(self._wait_for(ended, script, timeout)[1])
        output = path.with_suffix(".output").read_text(errors="replace")
        if check and status:
            raise AssertionError(f"{self._place}: {script}: status {status}\n{output}")
        return status, output

    def output(self, script: str, timeout: float = 30.0) -> str:
        """What a shell script prints, that has to succeed."""
        return self.run(script, timeout=timeout)[1]

    def reaches(self, address: str) -> bool:
        """Whether one ping to this address is answered within a second."""
        return self.run(f"ping -c 1 -W 1 {address}", check=False)[0] == 0

    def stop(self) -> None:
        """Pull its plug."""
        self.process.kill()
        self.process.wait()

    @property
    def _place(self) -> str:
        return f"in the kernel {self.address} on {self.host.name}"

    def _make_root(self) -> None:
        for name in ("bin", "commands", "dev", "proc", "sys", "tmp"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, self.root / "bin/busybox")
        applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
        for name in applets.stdout.split():
            if name != "busybox":
                (self.root / "bin" / name).symlink_to("busybox")
        init = self.root / "init"
        init.write_text(INIT)
        init.chmod(0o755)

    def _boot(self, interface: str, user: str | None) -> subprocess.Popen[bytes]:
        who = ["setpriv", "--pdeathsig", "KILL"]
        home = self.host.home
        if user is not None:
            who += [f"--reuid={USER_ID}", f"--regid={USER_ID}", "--init-groups"]
            home = self.host.user_home
        with self._console.open("wb") as console:
            # As long as its stdin is open it reads its console; at the end of it it would hang up.
            return self.host.start(
                *("unshare", "--pid", "--fork", "--kill-child", *who),
                *("linux.uml", f"mem={MEMORY}", "quiet", f"uml_dir={MEMORY_DIRECTORY}"),
                *("rootfstype=hostfs", f"rootflags={self.root}", "rw", "init=/init"),
                *("con=null", "con0=fd:0,fd:1", interface),
                env={"HOME": str(home), "TMPDIR": MEMORY_DIRECTORY},
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
            )

    def _wait_for(self, pattern: str, what: str, within: float) -> re.Match[str]:
        """Wait for a line on the console."""

        def found() -> re.Match[str] | bool:
            match = re.search(pattern, self.console, re.MULTILINE)
            return match or self.process.poll() is not None

        try:
            match = eventually(found, f"{self._place}: {what}", within)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; on its console:\n{self.console}") from None
        if isinstance(match, bool):
            raise AssertionError(f"{self._place}: it ended before {what}:\n{self.console}")
        return match
