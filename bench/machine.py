"""The machine of a run, and the versions of the programs that were measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

__all__ = ["describe"]

# OpenSSH's client and server have the same version.
PACKAGES: Final = ("openssh-server", "vde2", "vdeplug", "openvpn", "iperf3")


def describe() -> dict[str, str]:
    """Return the properties of this machine by their names for people."""
    return {
        "CPU": f"{os.cpu_count()} x {_cpu_model()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "Python": platform.python_version(),
        "vknet": version("vknet"),
        "trio": version("trio"),
        **{package: _package_version(package) for package in PACKAGES},
    }


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _package_version(package: str) -> str:
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout or "not a Debian package here"
