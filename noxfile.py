"""What `make test` runs: nox, or `nox -s lint types tests -- ARGUMENTS`."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.stop_on_first_error = True
nox.options.error_on_missing_interpreters = True

TOOLS = (".[test]", "mypy>=1.14", "nox", "ruff>=0.9")


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
def tests(session: nox.Session) -> None:
    session.install("--editable", ".[test]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")
