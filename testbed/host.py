"""A host: its own network, mounts, users, home directories and processes.

A holder process, unshare(1), keeps the namespaces alive.  It dies with this process
(PR_SET_PDEATHSIG), and its pid namespace dies with it: sshd, and everything that sshd started.
Programs under test run outside that pid namespace, so that their parent sees their real pids.  Each
of them has a PDEATHSIG of its own and dies with this process as well.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["REPOSITORY", "USER", "USER_ID", "Host", "eventually"]

REPOSITORY: Final = Path(__file__).resolve().parent.parent

USER: Final = "alice"
USER_ID: Final = 20001

# The init of a host: it reaps orphans, and does nothing else.
INIT: Final = "while :; do sleep 3600 & wait $!; done"

SET_UP: Final = """\
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd
mount -t sysfs sysfs /sys
for file in passwd shadow group hosts; do mount --bind "$ETC/$file" "/etc/$file"; done
# Mode 666, as udev creates it; the device of the machine itself may be restricted to root.
mknod -m 666 /run/tun c 10 200
mount --bind /run/tun /dev/net/tun
hostname "$NAME"
ip link set lo up
"""

# Give unprivileged users of this host access to paths below a directory that they may not enter.
OPEN_UP: Final = """\
set -e
mkdir -p "/run/closed$CLOSED"
mount --bind "$CLOSED" "/run/closed$CLOSED"
mount -t tmpfs -o mode=755 tmpfs "$CLOSED"
for path in "$@"; do
    mkdir -p "$path"
    mount --bind "/run/closed$path" "$path"
done
"""

T = TypeVar("T")


def eventually(check: Callable[[], T], what: str, within: float = 30.0, every: float = 0.02) -> T:
    """Poll until `check` returns a true value, and return that value.

    Args:
        check: called again and again.
        what: what is expected, for the error message.
        within: the deadline, in seconds from now.
        every: the pause between two calls, in seconds.

    Raises:
        AssertionError: the deadline has passed; the message names `what`.
    """
    deadline = time.monotonic() + within
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(every)


class Host:
    """One host.  It exists inside its context; every process on it is killed at the end.

    Args:
        name: its host name.
        directory: where its own directory is created.

    Attributes:
        directory: its own directory.
        home: the home directory of root.
        user_home: the home directory of the unprivileged user, `USER`.
        init: the pid of its first process, seen from outside; 0 before the host has started.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory / name
        self.home = self.directory / "home" / "root"
        self.user_home = self.directory / "home" / USER
        self._started: list[subprocess.Popen[Any]] = []
        self._holder: subprocess.Popen[bytes] | None = None
        self.init = 0

    def __enter__(self) -> Host:
        self._make_files()
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--uts", "--pid",
             "--fork", "--kill-child", "--", "bash", "-c", INIT],
            # Ctrl-C must not take the host from the program that is to clean up.
            start_new_session=True,
        )  # fmt: skip
        try:
            self.init = eventually(self._find_init, f"the first process of {self.name}")
            environment = {"ETC": str(self.directory / "etc"), "NAME": self.name}
            self.run("bash", "-c", SET_UP, env=environment)
            self._open_up([REPOSITORY, Path(sys.prefix), Path(sys.base_prefix), self.directory])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        for pid in self.processes():
            # Orphans of programs outside the pid namespace; they may be dying already.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
            eventually(lambda: not self.processes(), f"the end of every process on {self.name}")

    # --- processes --------------------------------------------------------------------------------

    def argv(self, *command: str, user: str | None = None) -> list[str]:
        """Return the command line that runs a command on this host, under the same pid."""
        enter = ["nsenter", f"--target={self.init}", "--net", "--mount", "--uts"]
        death = ["setpriv", "--pdeathsig", "KILL"]
        if user is not None:
            death += [f"--reuid={USER_ID}", f"--regid={USER_ID}", "--init-groups"]
        return [*enter, *death, *command]

    def environment(self, user: str | None = None, **more: str) -> dict[str, str]:
        """Return a plain environment, which does not depend on the user who runs the tests."""
        home = self.home if user is None else self.user_home
        path = f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {
            "HOME": str(home),
            "USER": user or "root",
            "PATH": path,
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            # Only for root: another user may not write the coverage data.
            **{k: v for k, v in os.environ.items() if k.startswith("COVERAGE") and user is None},
            **more,
        }

    def run(
        self,
        *command: str,
        user: str | None = None,
        env: dict[str, str] | None = None,
        check: bool = True,
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, and wait for its end.

        Args:
            command: the program and its arguments.
            user: who runs it; root if None.
            env: more environment variables.
            check: whether a status other than 0 is an error.
            timeout: in seconds.

        Raises:
            AssertionError: it failed, and `check` is set; the message has its output.
        """
        done = subprocess.run(
            self.argv(*command, user=user),
            env=self.environment(user, **(env or {})),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"on {self.name}: {' '.join(command)}: status {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def output(self, *command: str, **options: Any) -> str:
        """Run a command; return what it prints on stdout."""
        return self.run(*command, **options).stdout

    def start(
        self,
        *command: str,
        user: str | None = None,
        env: dict[str, str] | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        new_session: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start a command.  Its pid is that of the command itself; the host kills it at its end."""
        process = subprocess.Popen(
            self.argv(*command, user=user),
            env=self.environment(user, **(env or {})),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=new_session,
        )
        self.keep(process)
        return process

    def keep(self, process: subprocess.Popen[Any]) -> None:
        """Kill and reap this process when the host ends."""
        self._started.append(process)

    def processes(self, containing: str = "") -> list[int]:
        """Return the pids of the processes whose command line contains a text, seen from outside.

        The init of the host and its sleep are left out.
        """
        found = []
        try:
            network = (Path("/proc") / str(self.init) / "ns/net").stat().st_ino
        except OSError:
            return []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                if (entry / "ns/net").stat().st_ino != network:
                    continue
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            line = b" ".join(words).decode(errors="replace").strip()
            if line and "sleep 3600" not in line and containing in line:
                found.append(int(entry.name))
        return sorted(found)

    def script(self, name: str, body: str) -> str:
        """Create an executable shell script on this host; return its path."""
        path = self.directory / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
        return str(path)

    # --- network ----------------------------------------------------------------------------------

    def ip(self, *arguments: str) -> str:
        """Run the ip command; return what it prints."""
        return self.output("ip", *arguments)

    def reaches(self, address: str, wait: float = 0.2) -> bool:
        """Whether this address answers one ping within `wait` seconds."""
        ping = ("ping", "-n", "-c1", f"-W{wait:g}", address)
        return self.run(*ping, check=False).returncode == 0

    def interfaces(self) -> list[str]:
        """Return the names of the interfaces."""
        lines = self.ip("-o", "link", "show").splitlines()
        return [line.split(": ")[1].split("@")[0] for line in lines]

    def link(self, name: str) -> dict[str, Any]:
        """Return what ``ip -j -d link show`` prints of an interface; empty if there is none."""
        done = self.run("ip", "-j", "-d", "link", "show", name, check=False)
        result: dict[str, Any] = json.loads(done.stdout)[0] if done.returncode == 0 else {}
        return result

    # --- set-up -----------------------------------------------------------------------------------

    def _find_init(self) -> int:
        holder = self._holder
        if holder is None or holder.poll() is not None:
            raise AssertionError("unshare ended; the test bed needs root")
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
        try:
            words = children.read_text().split()
        except OSError:
            return 0
        if not words:
            return 0
        try:
            command = Path(f"/proc/{words[0]}/cmdline").read_bytes()
        except OSError:
            return 0
        return int(words[0]) if command.startswith(b"bash") else 0

    def _make_files(self) -> None:
        etc = self.directory / "etc"
        etc.mkdir(parents=True)
        for home in (self.home, self.user_home):
            home.mkdir(parents=True)
        users = [
            line
            for line in Path("/etc/passwd").read_text().splitlines()
            if not line.startswith(("root:", f"{USER}:"))
        ]
        users.append(f"root:x:0:0:root:{self.home}:/bin/bash")
        users.append(f"{USER}:x:{USER_ID}:{USER_ID}:{USER}:{self.user_home}:/bin/bash")
        (etc / "passwd").write_text("\n".join(users) + "\n")
        (etc / "shadow").write_text(f"root:*:19000::::::\n{USER}:*:19000::::::\n")
        groups = Path("/etc/group").read_text()
        (etc / "group").write_text(f"{groups}{USER}:x:{USER_ID}:\n")
        (etc / "hosts").write_text("127.0.0.1 localhost\n")
        os.chown(self.user_home, USER_ID, USER_ID)

    def _open_up(self, paths: Sequence[Path]) -> None:
        """Give every user of this host access to these paths."""
        closed: dict[Path, list[str]] = {}
        for path in paths:
            for parent in reversed(path.parents):
                if not parent.stat().st_mode & 0o001:
                    closed.setdefault(parent, []).append(str(path))
                    break
        for parent, below in closed.items():
            self.run("bash", "-c", OPEN_UP, "open-up", *below, env={"CLOSED": str(parent)})
