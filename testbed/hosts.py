"""Two hosts with a wire between them and an sshd on one: what everybody imports the test bed from.

Addresses are of 198.18.0.0/15 (RFC 2544) and fd00::/8, and exist inside the namespaces only.
"""

from __future__ import annotations

import os
import shutil
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


class Bed:
    """Two hosts, ``here`` and ``there``, with a wire between them and an sshd on ``there``.

    ``there`` answers to the name ``myhomesystem`` as well, and root on ``here`` may log in as root
    and as alice on ``there``, alice likewise.
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
        """Lay the wire, make the keys, start sshd."""
        hosts = f"127.0.0.1 localhost\n{self.THERE4} there myhomesystem\n{self.HERE4} here\n"
        for host in (self.here, self.there):
            (host.directory / "etc/hosts").write_text(hosts)
        self.lay_wire()
        self._make_keys()
        self.start_sshd()

    def lay_wire(self) -> None:
        """Join the two hosts: ``wan0`` is its end on either."""
        here, there = self.here, self.there
        here.ip("link", "add", "wan0", "type", "veth", "peer", "name", "wan1")
        # The other end moves to the other host by the pid of that host's init.
        here.ip("link", "set", "wan1", "netns", str(there.init), "name", "wan0")
        self.give_wire_addresses()

    def give_wire_addresses(self) -> None:
        """Give both ends of the wire their addresses, and bring them up."""
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
        """Let root and alice of ``here`` in, with these options of authorized_keys."""
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
        """Start sshd on ``there`` and wait until it listens."""
        config = self.there.directory / "sshd_config"
        users = "".join(
            f"Match User {name}\nSetEnv {self._for_sshd(user)}\n"
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
            self.sshd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log)
        self.there.keep(self.sshd)
        eventually(self._listening, "sshd listening")

    def _for_sshd(self, user: str | None) -> str:
        wanted = ("PATH", "PYTHON", "COVERAGE")
        environment = self.there.environment(user)
        return " ".join(f'"{k}={v}"' for k, v in environment.items() if k.startswith(wanted))

    def _listening(self) -> bool:
        return bool(self.there.output("ss", "-Hltn", "sport = :22").strip())

    def stop_sshd(self) -> None:
        """Kill sshd and every session of it."""
        for pid in self.there.processes("sshd"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.sshd is not None:
            self.sshd.wait()
        eventually(lambda: not self._listening(), "sshd gone")

    def black_hole(self, on: bool) -> None:
        """Have the wire lose everything without a word, or carry it again."""
        # A veth that is down would tell its peer; one with this qdisc does not.
        verb = (
            ["replace", "dev", "wan0", "root", "blackhole"]
            if on
            else ["del", "dev", "wan0", "root"]
        )
        for host in (self.here, self.there):
            host.run("tc", "qdisc", *verb)


@contextmanager
def two_hosts() -> Iterator[Bed]:
    """Two hosts, ready; gone at the end."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="vknet-bed-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        here = stack.enter_context(Host("here", directory))
        there = stack.enter_context(Host("there", directory))
        bed = Bed(here, there, directory)
        bed.set_up()
        yield bed


def make_key(path: Path) -> None:
    """Make an ed25519 key pair without a passphrase."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
