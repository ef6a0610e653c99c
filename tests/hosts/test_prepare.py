"""testbed/prepare.sh and give_back.sh: what they leave on the machine, whatever ends them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from testbed.hosts import REPOSITORY, eventually

if TYPE_CHECKING:
    from pathlib import Path

# A package whose service says that it was started, as debhelper's snippets start one.
CONTROL: Final = """\
Package: vknet-probe
Version: 1
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: starts a service
"""
POSTINST: Final = """\
#!/bin/sh
set -e
mkdir -p /etc/rc5.d
ln -s ../init.d/vknet-probe /etc/rc5.d/S01vknet-probe
invoke-rc.d vknet-probe start
touch {directory}/installed
"""
SERVICE: Final = "#!/bin/sh\n: >{directory}/started\n"

# A machine without packages, and without systemd; nothing of the machine itself changes.
FRESH: Final = """\
set -e
mount -t tmpfs tmpfs /mnt
for path in /etc /usr; do
    mkdir -p /mnt$path/upper /mnt$path/work
    mount -t overlay -o lowerdir=$path,upperdir=/mnt$path/upper,workdir=/mnt$path/work overlay $path
done
for path in /run /var/cache /var/lib/apt /var/lib/dpkg /var/log; do mount -t tmpfs tmpfs $path; done
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers
touch /var/lib/dpkg/status
rm -f /usr/sbin/policy-rc.d /usr/sbin/runlevel /bin/systemctl
printf '#!/bin/sh\\necho N 5\\n' >/usr/sbin/runlevel
chmod +x /usr/sbin/runlevel
"$@"
"""

# In place of the machine's programs, in the first directory of PATH.
NOT_INSTALLED: Final = "#!/bin/sh\nexit 1\n"
NO_UPDATE: Final = '#!/bin/sh\n[ "$1" = update ] || exec /usr/bin/apt-get "$@"\n'
SLOW: Final = """\
#!/bin/sh
touch {directory}/clone/"$1"
[ "$1" = update ] || exit
while [ ! -e {directory}/go ]; do sleep 0.02; done
touch {directory}/done
"""


def write_script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body)
    path.chmod(0o755)


def clone_into(directory: Path) -> Path:
    """Make a clone with a venv that is already prepared; return its directory."""
    clone = directory / "clone"
    shutil.copytree(REPOSITORY / "testbed", clone / "testbed")
    (clone / ".venv").mkdir()
    (clone / ".venv/.prepared-test").touch()
    return clone


def environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{directory}/bin:{os.environ['PATH']}"}


@pytest.mark.parametrize("prepared", [True, False], ids=["by prepare.sh", "by apt-get alone"])
def test_package_that_prepare_installs_starts_no_service(tmp_path: Path, prepared: bool) -> None:
    package = tmp_path / "package"
    write_script(package / "DEBIAN/control", CONTROL)
    write_script(package / "DEBIAN/postinst", POSTINST.format(directory=tmp_path))
    write_script(package / "etc/init.d/vknet-probe", SERVICE.format(directory=tmp_path))
    archive = str(tmp_path / "vknet-probe.deb")
    subprocess.run(["dpkg-deb", "--build", package, archive], check=True, capture_output=True)
    write_script(tmp_path / "bin/apt-get", NO_UPDATE)
    clone = clone_into(tmp_path)
    install = (
        [str(clone / "testbed/prepare.sh"), "test", archive]
        if prepared
        else ["apt-get", "install", "-y", archive]
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", FRESH, "sh", *install],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "installed").exists()
    assert (tmp_path / "started").exists() is not prepared, done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_make_that_ends_while_apt_runs_leaves_a_clone_of_its_owner(
    tmp_path: Path, number: signal.Signals
) -> None:
    clone = clone_into(tmp_path)
    write_script(tmp_path / "bin/dpkg-query", NOT_INSTALLED)
    write_script(tmp_path / "bin/apt-get", SLOW.format(directory=tmp_path))
    (clone / "Makefile").write_text(
        "all:\n\t@testbed/give_back.sh testbed/prepare.sh test nonexistent-package\n"
    )
    for path in (clone, *clone.rglob("*")):
        os.chown(path, 20001, 20001)
    make = subprocess.Popen(
        ["make"], cwd=clone, env=environment(tmp_path), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        created = clone / "update"
        eventually(created.exists, "a running apt-get")
        assert created.stat().st_uid == 0
        make.send_signal(number)
        # apt-get is not interrupted: it would leave packages half installed.
        (tmp_path / "go").touch()
        make.wait(20)
        eventually(lambda: created.stat().st_uid == 20001, "files of the owner")
        assert (tmp_path / "done").exists()
        assert not (clone / "install").exists()
    finally:
        (tmp_path / "go").touch()
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGKILL)
        make.wait()
