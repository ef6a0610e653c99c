"""Run a command under the restrictions of a systemd unit.

    python confinement.py confine UNIT COMMAND...

It applies the settings of the unit by the same kernel interfaces as systemd: capabilities, group,
read-only file systems, address families, system calls, and no memory that is both writable and
executable.  From systemd it uses only the lists of system calls.  It must be started as root, in a
mount namespace of its own.  It does not restrict devices, which needs a control group.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

# linux/prctl.h
PR_SET_MDWE = 65
MDWE_REFUSE_EXEC_GAIN = 1

# seccomp.h
SCMP_ACT_ALLOW = 0x7FFF0000
SCMP_ACT_ERRNO = 0x00050000
SCMP_CMP_EQ = 4

# The file systems that ProtectSystem=strict leaves writable, see systemd.exec(5).
API_FILE_SYSTEMS = ("/dev", "/proc", "/sys")


class ArgumentComparison(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


class Unit:
    """The settings of a unit.

    Attributes:
        lines: the values of each setting, in order; a setting may occur more than once.
    """

    def __init__(self, path: str) -> None:
        self.lines: dict[str, list[str]] = {}
        for line in Path(path).read_text().splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                self.lines.setdefault(name, []).append(value)

    def one(self, name: str) -> str:
        """Return the value of a setting that occurs once."""
        (value,) = self.lines[name]
        return value


def expand(names: list[str]) -> set[str]:
    """Return the names of system calls, with each group (``@name``) replaced by its members."""
    calls: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            calls.add(name)
            continue
        command = ["systemd-analyze", "syscall-filter", name]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        words = [line.strip() for line in listed.splitlines()[1:]]
        calls |= expand([word for word in words if word and not word.startswith("#")])
    return calls


def allowed_calls(unit: Unit) -> set[str]:
    """Return the system calls that SystemCallFilter= allows."""
    # systemd.exec(5): this group is always allowed.
    calls = expand(["@default"])
    for value in unit.lines["SystemCallFilter"]:
        listed = expand(value.removeprefix("~").split())
        calls = calls - listed if value.startswith("~") else calls | listed
    return calls


def protect_file_system(unit: Unit) -> None:
    """Apply ProtectSystem=strict and ReadWritePaths=."""
    if unit.one("ProtectSystem") != "strict":
        raise AssertionError("only ProtectSystem=strict is implemented here")
    writable = (*API_FILE_SYSTEMS, *unit.one("ReadWritePaths").split())
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in mounts:
        if not any(mount == path or mount.startswith(f"{path}/") for path in writable):
            options = ["mount", "-o", "remount,bind,ro", mount]
            subprocess.run(options, check=True, capture_output=True)


def filter_calls(unit: Unit, calls: set[str]) -> None:
    """Load a seccomp(2) filter: these calls, and socket(2) as RestrictAddressFamilies= says."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(SCMP_ACT_ERRNO | errno.EPERM))
    for name in sorted(calls - {"socket"}):
        number = library.seccomp_syscall_resolve_name(name.encode())
        # A negative number: this architecture has no such call.
        if number >= 0 and library.seccomp_rule_add(context, SCMP_ACT_ALLOW, number, 0):
            raise AssertionError(f"no rule for {name}")
    number = library.seccomp_syscall_resolve_name(b"socket")
    for family in unit.one("RestrictAddressFamilies").split():
        comparison = ArgumentComparison(0, SCMP_CMP_EQ, int(getattr(socket, family)), 0)
        if library.seccomp_rule_add(context, SCMP_ACT_ALLOW, number, 1, comparison):
            raise AssertionError(f"no rule for {family}")
    if library.seccomp_load(context):
        raise AssertionError("the filter cannot be loaded")


def main() -> None:
    """Run one of two steps: "confine" needs privileges, and "filter" comes after setpriv(1)."""
    step, path, *command = sys.argv[1:]
    unit = Unit(path)
    if step == "confine":
        protect_file_system(unit)
        kept = "".join(
            f",+{name.removeprefix('CAP_').lower()}"
            for name in unit.one("CapabilityBoundingSet").split()
        )
        privileges = (f"--bounding-set=-all{kept}", "--inh-caps=-all", "--no-new-privs")
        group = (f"--regid={unit.one('Group')}", "--clear-groups")
        again = (sys.executable, __file__, "filter", path, *command)
        os.execvp("setpriv", ["setpriv", *privileges, *group, *again])
    calls = allowed_calls(unit)
    if unit.one("MemoryDenyWriteExecute") == "yes":
        ctypes.CDLL(None).prctl(PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    filter_calls(unit, calls)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
