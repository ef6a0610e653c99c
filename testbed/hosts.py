"""Two hosts with a cable between them, and an sshd on one: the public face of the test bed.

The addresses are from 198.18.0.0/15 (RFC 2544) and fd00::/8 (RFC 4193).  They exist only inside the
namespaces.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from testbed.host import REPOSITORY, USER, USER_ID, Host, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["REPOSITORY", "Bed", "Host", "eventually", "two_hosts"]

# Wait for a line on stdin, and remove a directory.  The end of stdin without a line is that of a
# process that was killed.  What it had just started may live on: each program on a host has a home
# directory there, so its environment names the directory.
REMOVE: Final = """\
directory=$1
read -r line && exec rm -rf -- "$directory"
for try in 1 2 3 4 5 6 7 8 9 10; do
    for file in $(grep -lsF -- "$directory" /proc/[0-9]*/environ); do
        process=${file#/proc/}
        kill -KILL "${process%/environ}"
    done
    rm -rf -- "$directory"
    sleep 0.2
done 2>/dev/null
"""


class Bed:
    """Two hosts, ``here`` and ``there``, with a cable between them and an sshd on ``there``.

    ``myhomesystem`` is another name of ``there``.  Root and alice on ``here`` may log in to it,
    each as root and as alice.  Both ends of the cable are interfaces called ``wan0``.
    """

    HERE4: Final = "198.18.0.1"
    THERE4: Final = "198.18.0.2"
    HERE6: Final = "fd00::1"
    THERE6: Final = "fd00::2"

    def __init__(self, here: Host, there: Host, directory: Path) -> None:
        self.here = here
        self.there = there
        self.directory = directory
        self.sshd: subprocess.Popen[bytes] | None = None

    def set_up(self) -> None:
        """Connect the cable, create the keys, start sshd."""
        hosts = f"127.0.0.1 localhost\n{self.THERE4} there myhomesystem\n{self.HERE4} here\n"
        for host in (self.here, self.there):
            (host.directory / "etc/hosts").write_text(hosts)
        self.connect_cable()
        self._make_keys()
        self.start_sshd()

    def connect_cable(self) -> None:
        """Create the cable, a veth pair with one end, ``wan0``, on each host."""
        here, there = self.here, self.there
        here.ip("link", "add", "wan0", "type", "veth", "peer", "name", "wan1")
        # The pid of a host's init names its network namespace.
        here.ip("link", "set", "wan1", "netns", str(there.init), "name", "wan0")
        self.configure_cable()

    def configure_cable(self) -> None:
        """Give both ends of the cable their addresses, and bring them up."""
        here, there = self.here, self.there
        for host, v4, v6 in ((here, self.HERE4, self.HERE6), (there, self.THERE4, self.THERE6)):
            host.ip("addr", "add", f"{v4}/30", "dev", "wan0")
            host.ip("addr", "add", f"{v6}/64", "dev", "wan0", "nodad")
            host.ip("link", "set", "wan0", "up")

    def _make_keys(self) -> None:
        host_key = self.there.directory / "ssh_host_ed25519_key"
        make_key(host_key)
        public = host_key.with_suffix(".pub").read_text().split()
        names = f"{self.THERE4},{self.THERE6},there,myhomesystem"
        for home, owner in ((self.here.home, 0), (self.here.user_home, USER_ID)):
            ssh = home / ".ssh"
            ssh.mkdir(mode=0o700)
            make_key(ssh / "id_ed25519")
            (ssh / "known_hosts").write_text(f"{names} {public[0]} {public[1]}\n")
            for path in (ssh, *ssh.iterdir()):
                os.chown(path, owner, owner)
        self.authorize()

    def authorize(self, options: str = "") -> None:
        """Authorize root and alice of ``here``, with these options of authorized_keys."""
        lines = ""
        for home in (self.here.home, self.here.user_home):
            key = (home / ".ssh/id_ed25519.pub").read_text()
            lines += f"{options} {key}" if options else key
        for home, owner in ((self.there.home, 0), (self.there.user_home, USER_ID)):
            ssh = home / ".ssh"
            ssh.mkdir(mode=0o700, exist_ok=True)
            (ssh / "authorized_keys").write_text(lines)
            for path in (ssh, *ssh.iterdir()):
                os.chown(path, owner, owner)

    def start_sshd(self, *options: str) -> None:
        """Start sshd on ``there``, with more lines of its configuration; wait until it listens."""
        config = self.there.directory / "sshd_config"
        users = "".join(
            f"Match User {name}\nSetEnv {self._set_env(user)}\n"
            for name, user in (("root", None), (USER, USER))
        )
        config.write_text(
            f"HostKey {self.there.directory}/ssh_host_ed25519_key\n"
            "PidFile none\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n"
            "StrictModes no\nPrintMotd no\nUseDNS no\nMaxStartups 100\n"
            + "".join(f"{option}\n" for option in options)
            + users
        )
        argv = self.there.argv("/usr/sbin/sshd", "-D", "-e", "-f", str(config))
        argv.insert(argv.index("--net"), "--pid")
        with (self.there.directory / "sshd.log").open("ab") as log:
            self.sshd = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True
            )
        self.there.keep(self.sshd)
        eventually(self._listening, "sshd listening")

    def _set_env(self, user: str | None) -> str:
        wanted = ("PATH", "PYTHON", "COVERAGE")
        environment = self.there.environment(user)
        return " ".join(f'"{k}={v}"' for k, v in environment.items() if k.startswith(wanted))

    def _listening(self) -> bool:
        return bool(self.there.output("ss", "-Hltn", "sport = :22").strip())

    def stop_sshd(self) -> None:
        """Kill sshd and every session."""
        for pid in self.there.processes("sshd"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.sshd is not None:
            self.sshd.wait()
        eventually(lambda: not self._listening(), "the end of sshd")

    def black_hole(self, on: bool) -> None:
        """Make the cable drop every frame silently, or carry frames again."""
        # Setting a veth down would take the carrier from its peer; this qdisc does not.
        verb = (
            ["replace", "dev", "wan0", "root", "blackhole"]
            if on
            else ["del", "dev", "wan0", "root"]
        )
        for host in (self.here, self.there):
            host.run("tc", "qdisc", *verb)


@contextmanager
def vanishing_directory() -> Iterator[Path]:
    """Yield a new directory that goes with this process, even if SIGKILL ends it."""
    directory = Path(tempfile.mkdtemp(prefix="vknet-bed-"))
    directory.chmod(0o755)
    remover = subprocess.Popen(
        ["sh", "-c", REMOVE, "remover", str(directory)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield directory
    finally:
        remover.communicate(b"\n")


@contextmanager
def two_hosts() -> Iterator[Bed]:
    """Yield two hosts that are set up; remove them at the end."""
    with ExitStack() as stack:
        directory = stack.enter_context(vanishing_directory())
        here = stack.enter_context(Host("here", directory))
        there = stack.enter_context(Host("there", directory))
        bed = Bed(here, there, directory)
        bed.set_up()
        yield bed


def make_key(path: Path) -> None:
    """Create an ed25519 key pair without a passphrase."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
