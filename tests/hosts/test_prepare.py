"""testbed/prepare.sh in a mount namespace of its own, with an apt-get that does not end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from testbed.hosts import REPOSITORY, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

# The path of the policy file in the directory that prepare.sh sees as /usr/sbin.
POLICY: Final = Path("sbin/policy-rc.d")

# Replacements of programs that prepare.sh runs, in the first directory of its PATH.
DPKG_QUERY: Final = "#!/bin/sh\nexit 1\n"
APT_GET: Final = "#!/bin/sh\necho $$ >{directory}/apt\nexec sleep 60\n"

NAMESPACE_SCRIPT: Final = """\
set -e
mount --bind sbin /usr/sbin
exec setpriv --pdeathsig KILL sh testbed/prepare.sh test nonexistent-package
"""


@contextmanager
def preparing(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run prepare.sh, yield while its apt-get runs, and kill it at the end."""
    shutil.copytree(REPOSITORY / "testbed", directory / "testbed")
    (directory / "sbin").mkdir()
    for name, body in (("dpkg-query", DPKG_QUERY), ("apt-get", APT_GET)):
        path = directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(body.format(directory=directory))
        path.chmod(0o755)
    process = subprocess.Popen(
        ["unshare", "--mount", "bash", "-c", NAMESPACE_SCRIPT],
        cwd=directory,
        env={**os.environ, "PATH": f"{directory}/bin:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        eventually((directory / "apt").exists, "a running apt-get")
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_while_apt_runs_leaves_no_policy_file(
    tmp_path: Path, number: signal.Signals
) -> None:
    with preparing(tmp_path) as process:
        policy = tmp_path / POLICY
        assert subprocess.run([policy], check=False).returncode == 101
        os.killpg(process.pid, number)
        assert process.wait(20) == 128 + number
        assert not policy.exists()


def test_policy_file_left_by_sigkill_allows_everything(tmp_path: Path) -> None:
    with preparing(tmp_path) as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
        assert subprocess.run([tmp_path / POLICY], check=False).returncode == 0
