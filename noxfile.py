"""The sessions of nox, which `make test` runs.

    nox                             lint, types, manual, tests, fuzz
    nox -s unit                     unit and property tests, on each Python that is installed
    nox -s "unit(3.13)"             the same, on that Python
    nox -s tests -- tests/cli -x    arguments of pytest
    nox -s coverage                 all tests, and the share of the code that they run
    nox -s fuzz                     the fuzzers, for 45 seconds
    nox -s soak                     the slow tests, such as the matrix of faults

`tests` runs every test on the Python that runs nox.  `unit` runs the tests that need no root, with
fewer examples for each property; CI runs it on each Python.  `coverage` takes twice the time of
`tests`, and has a job of its own in CI.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import nox
from nox.logger import logger

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.stop_on_first_error = True
nox.options.error_on_missing_interpreters = True

# One worker more than processors, because host tests wait most of the time.  A worker that has
# finished takes tests from the others.
PARALLEL: Final = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal")

TOOLS = (".[test]", "mypy>=1.14", "nox", "ruff>=0.9")

# The same list is in pyproject.toml (classifiers) and in .github/workflows/ci.yml.
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
CURRENT: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


def find_python(version: str) -> str | None:
    """Return the path of an interpreter of this version, or None.

    The interpreter in PATH comes first, then those of pyenv.  A candidate has to run and to have
    venv: PATH may have a pyenv shim of a version that is not selected, and Debian packages venv
    separately.
    """
    if version == CURRENT:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    name = f"python{version}"
    candidates = [shutil.which(name), *pyenv.glob(f"{version}.*/bin/{name}")]
    for candidate in candidates:
        if candidate is not None and is_usable(candidate, version):
            return str(candidate)
    return None


def is_usable(python: str | Path, version: str) -> bool:
    """Whether an interpreter has this version and can create a venv."""
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


FOUND: Final = {version: path for version in PYTHONS if (path := find_python(version))}
if missing := [version for version in PYTHONS if version not in FOUND]:
    logger.info("not tested, because it is not installed: Python %s", ", ".join(missing))

nox.options.sessions = [
    "lint",
    "types",
    "manual",
    "tests",
    "fuzz",
]


@nox.session
def lint(session: nox.Session) -> None:
    session.install("ruff>=0.9")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    session.install("--editable", *TOOLS)
    session.run("mypy")


@nox.session
def manual(session: nox.Session) -> None:
    pages = ("docs/vknet.1", "docs/vknetd.8")
    session.run("mandoc", "-T", "lint", "-W", "warning", *pages, external=True)


@nox.session
@nox.parametrize("python", [nox.param(path, id=version) for version, path in FOUND.items()])
def unit(session: nox.Session) -> None:
    session.install("--editable", ".[test]")
    arguments = session.posargs or PARALLEL
    session.run(
        "python", "-m", "pytest", "-m", "not root", "--hypothesis-profile=quick", *arguments
    )


@nox.session
def tests(session: nox.Session) -> None:
    session.install("--editable", ".[test]")
    session.run("python", "-m", "pytest", *(session.posargs or PARALLEL))


@nox.session
def coverage(session: nox.Session) -> None:
    session.install("--editable", ".[test]")
    session.run("coverage", "erase")
    # The coverage limit (fail_under) applies only to a run of all tests.
    complete = not session.posargs and os.geteuid() == 0
    try:
        session.run("coverage", "run", "-m", "pytest", *(session.posargs or PARALLEL))
    except BaseException:
        # Every measured process has left a file.
        session.run("coverage", "erase")
        raise
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", *([] if complete else ["--fail-under=0"]))


@nox.session
def fuzz(session: nox.Session) -> None:
    """Run the fuzzers on all processors; the default time suits CI."""
    if platform.machine() != "x86_64":
        session.skip("atheris has no wheel for this machine")
    session.install("--editable", ".[fuzz]")
    session.run("python", "-m", "fuzz", *(session.posargs or ("--all", "--seconds", "45")))


@nox.session
def soak(session: nox.Session) -> None:
    """Run the tests that take long, one after the other."""
    session.install("--editable", ".[test]")
    session.run("python", "-m", "pytest", "-m", "slow", *session.posargs)
