"""A host: its own network, mounts, users, home directories and processes.

A holder process, `unshare`, keeps the namespaces alive; it dies with this process (PDEATHSIG), and
what it unshared dies with it, sshd and all that sshd started included, because they live in its pid
namespace.  Programs under test are started outside that pid namespace, so that their pids are the
ones their parent sees; they die with this process on their own account.
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

# The init of a host: reaps what its children leave behind, and does nothing else.
INIT: Final = "while :; do sleep 3600 & wait $!; done"

SET_UP: Final = """\
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd
mount -t sysfs sysfs /sys
for file in passwd shadow group hosts; do mount --bind "$ETC/$file" "/etc/$file"; done
# For everybody, as udev makes it; this machine's own may be root's alone.
mknod -m 666 /run/tun c 10 200
mount --bind /run/tun /dev/net/tun
hostname "$NAME"
ip link set lo up
"""

# Let users without rights reach what lies below a closed directory, inside this host only.
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
    """Poll until `check` gives something true, and return that.

    Raises:
        AssertionError: it did not, within so many seconds; `what` says what was waited for.
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
    """One host; a context manager, because everything on it ends with it."""

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
             "--fork", "--kill-child", "--", "bash", "-c", INIT]
        )  # fmt: skip
        self.init = eventually(self._find_init, "the host's first process")
        environment = {"ETC": str(self.directory / "etc"), "NAME": self.name}
        self.run("bash", "-c", SET_UP, env=environment)
        self._open_up([REPOSITORY, Path(sys.prefix), Path(sys.base_prefix), self.directory])
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
            # Orphans of what was started outside the pid namespace; they may be dying already.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
            eventually(lambda: not self.processes(), f"the end of every process on {self.name}")

    # --- running things on it ---------------------------------------------------------------------

    def argv(self, *command: str, user: str | None = None) -> list[str]:
        """The command line that runs a command on this host; it keeps its pid."""
        enter = ["nsenter", f"--target={self.init}", "--net", "--mount", "--uts"]
        death = ["setpriv", "--pdeathsig", "KILL"]
        if user is not None:
            death += [f"--reuid={USER_ID}", f"--regid={USER_ID}", "--init-groups"]
        return [*enter, *death, *command]

    def environment(self, user: str | None = None, **more: str) -> dict[str, str]:
        """A plain environment, the same whoever runs the tests."""
        home = self.home if user is None else self.user_home
        path = f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {
            "HOME": str(home),
            "USER": user or "root",
            "PATH": path,
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            # The coverage of what root runs is kept; another user could not write it down.
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
        """Run a command to its end.

        Raises:
            AssertionError: it failed, and `check` is set; with what it said.
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
        """What a command prints."""
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
        """Start a command; it is killed when the host ends.  Its pid is the command's own."""
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
        """Have a process killed and reaped when the host ends."""
        self._started.append(process)

    def processes(self, containing: str = "") -> list[int]:
        """The pids, as seen from outside, of what runs on this host with that in its command line.

        The host's own init and its sleep are not among them.
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
        """Put an executable shell script on this host; its path."""
        path = self.directory / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
        return str(path)

    # --- its network ------------------------------------------------------------------------------

    def ip(self, *arguments: str) -> str:
        """What the ip command prints."""
        return self.output("ip", *arguments)

    def reaches(self, address: str, wait: float = 0.2) -> bool:
        """Whether one ping to this address is answered within so many seconds."""
        ping = ("ping", "-n", "-c1", f"-W{wait:g}", address)
        return self.run(*ping, check=False).returncode == 0

    def interfaces(self) -> list[str]:
        """The names of its interfaces."""
        lines = self.ip("-o", "link", "show").splitlines()
        return [line.split(": ")[1].split("@")[0] for line in lines]

    def link(self, name: str) -> dict[str, Any]:
        """What ``ip -j -d link show`` says of an interface; empty if there is none."""
        done = self.run("ip", "-j", "-d", "link", "show", name, check=False)
        result: dict[str, Any] = json.loads(done.stdout)[0] if done.returncode == 0 else {}
        return result

    # --- setting it up ----------------------------------------------------------------------------

    def _find_init(self) -> int:
        holder = self._holder
        if holder is None or holder.poll() is not None:
            raise AssertionError("unshare ended; are we root?")
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
        """Make these paths reachable for every user of this host."""
        closed: dict[Path, list[str]] = {}
        for path in paths:
            for parent in reversed(path.parents):
                if not parent.stat().st_mode & 0o001:
                    closed.setdefault(parent, []).append(str(path))
                    break
        for parent, below in closed.items():
            self.run("bash", "-c", OPEN_UP, "open-up", *below, env={"CLOSED": str(parent)})
