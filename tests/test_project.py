"""The files around the program: what they name exists, and what they repeat is the same."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest

from testbed.host import eventually

ROOT: Final = Path(__file__).resolve().parent.parent
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
HATCH: Final = PROJECT["tool"]["hatch"]["build"]["targets"]
MAKEFILE: Final = (ROOT / "Makefile").read_text()
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def quoted(text: str) -> list[str]:
    """Return the Python versions that are in quotes."""
    return re.findall(r'"(3\.\d+)"', text)


def found(pattern: str, path: str) -> str:
    """Return what the pattern captures in a file."""
    match = re.search(pattern, (ROOT / path).read_text(), re.DOTALL | re.MULTILINE)
    assert match, f"{path} has nothing like {pattern}"
    return match[1]


def heading_anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_classifiers_nox_and_ci_name_the_same_pythons() -> None:
    classifiers = "\n".join(PROJECT["project"]["classifiers"])
    pythons = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", classifiers, re.M)
    assert quoted(found(r"^PYTHONS\b.*?= \((.*?)\)$", "noxfile.py")) == pythons
    assert quoted(found(r"^ *python: \[(.*?)\]$", ".github/workflows/ci.yml")) == pythons
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_link_in_document_leads_to_a_file_and_a_heading(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (document.parent / path) if path else document
        assert file.exists(), target
        if anchor:
            assert anchor in heading_anchors(file.read_text()), target


def test_sdist_list_names_what_exists() -> None:
    for pattern in HATCH["sdist"]["include"]:
        assert list(ROOT.glob(pattern.lstrip("/"))), pattern
    for path in HATCH["wheel"]["shared-data"]:
        assert (ROOT / path).exists(), path
    for path in PROJECT["project"]["license-files"]:
        assert (ROOT / path).exists(), path


def test_sdist_list_has_every_folder_of_the_repository() -> None:
    listed = {pattern.strip("/") for pattern in HATCH["sdist"]["include"]}
    git = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    folders = {path.split("/")[0] for path in git.stdout.splitlines() if "/" in path}
    assert folders <= listed


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--help"], 0), (["-h"], 0), (["tests"], 2), (["-h", "-v"], 2)]
)
def test_ci_run_with_arguments_runs_no_tests(
    tmp_path: Path, arguments: list[str], status: int
) -> None:
    make = tmp_path / "make"
    make.write_text(f"#!/bin/sh\ntouch '{tmp_path}/made'\n")
    make.chmod(0o755)
    done = subprocess.run(
        [ROOT / ".ci/run", *arguments],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert ".ci/run" in (done.stderr if status else done.stdout)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("number", [None, signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_ci_run_leaves_no_file(tmp_path: Path, number: signal.Signals | None) -> None:
    made, temporary = tmp_path / "made", tmp_path / "tmp"
    temporary.mkdir()
    make = tmp_path / "make"
    make.write_text(f"#!/bin/sh\necho $$ >'{made}'\n{'exit 7' if number is None else 'sleep 60'}\n")
    make.chmod(0o755)
    run = subprocess.Popen(
        [ROOT / ".ci/run"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        eventually(lambda: made.exists() and made.read_text(), "a make that runs")
        if number is not None:
            os.killpg(run.pid, number)
        assert run.wait(60) == (7 if number is None else 128 + number)
    finally:
        run.kill()
        run.wait()
    assert list(temporary.iterdir()) == []


# --- the suite's own rules, on a suite of a few lines ------------------------------------------

PLAIN: Final = "def test_plain(): pass"
NEEDS_ROOT: Final = "import pytest\n@pytest.mark.root\ndef test_needs_root(): pass"
PROPERTIES: Final = """\
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
examples = 0
machines = 0

@settings(max_examples=500)
@given(st.integers())
def test_property(number):
    global examples
    examples += 1

class Machine(RuleBasedStateMachine):
    @rule()
    def step(self):
        pass

    def teardown(self):
        global machines
        machines += 1

TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=500)

def test_few_examples():
    assert 0 < examples <= 20
    assert 0 < machines <= 20
"""
CHILD: Final = """\
import subprocess
import sys

def test_child():
    names = ("SIGINT", "SIGHUP")
    code = f"import signal; print(*(signal.getsignal(signal.Signals[n]) for n in {names}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "default_int_handler" in done.stdout
    assert done.stdout.endswith("0\\n"), done.stdout
"""
SKIPPED: Final = "import pytest\ndef test_skipped(): pytest.skip('not today')"


def run_suite(
    tmp_path: Path,
    *tests: str,
    ci: bool,
    as_root: bool,
    arguments: tuple[str, ...] = (),
    before: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run pytest on these tests and a host test, with the repository's options and conftests.

    Args:
        tmp_path: the directory for the suite; it is empty.
        tests: the text of each file of tests.
        ci: whether CI is in the environment.
        as_root: whether the effective user is root, as far as Python tells.
        arguments: more arguments of pytest.
        before: shell commands that are run before pytest, in the same process.
    """
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("tests", "tests/hosts"):
        (tmp_path / folder).mkdir()
        shutil.copy(ROOT / folder / "conftest.py", tmp_path / folder)
    (tmp_path / "tests/hosts/test_on_hosts.py").write_text("def test_on_hosts(): pass\n")
    for number, text in enumerate(tests):
        (tmp_path / f"tests/test_{number}.py").write_text(f"{text}\n")
    user = 0 if as_root else 65534
    (tmp_path / "effective_user.py").write_text(f"import os\nos.geteuid = lambda: {user}\n")
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"CI": "true"} if ci else {}
    return subprocess.run(
        [
            *("sh", "-c", f'{before}\nexec "$@"', "sh"),
            *(sys.executable, "-m", "pytest", "-p", "effective_user", *arguments),
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_root_the_tests_that_need_it_are_deselected(tmp_path: Path) -> None:
    done = run_suite(tmp_path, PLAIN, NEEDS_ROOT, SKIPPED, ci=False, as_root=False)
    assert done.returncode == 0
    assert "1 passed, 1 skipped, 2 deselected" in done.stdout
    assert "not run: 2 tests that need root" in done.stdout


def test_ci_without_root_is_an_error(tmp_path: Path) -> None:
    done = run_suite(tmp_path, PLAIN, NEEDS_ROOT, ci=True, as_root=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "CI is set, and 2 tests need root" in done.stderr


def test_unit_session_of_nox_needs_no_root_in_ci_and_tries_few_examples(tmp_path: Path) -> None:
    arguments = ("-m", "not root", "--hypothesis-profile=quick")
    done = run_suite(tmp_path, PROPERTIES, NEEDS_ROOT, ci=True, as_root=False, arguments=arguments)
    assert done.returncode == 0, done.stdout
    assert "3 passed, 2 deselected" in done.stdout


def test_skipped_test_fails_the_run_in_ci(tmp_path: Path) -> None:
    done = run_suite(tmp_path, PLAIN, NEEDS_ROOT, SKIPPED, ci=True, as_root=True)
    assert done.returncode == 1
    assert "3 passed, 1 skipped" in done.stdout
    assert "not run" not in done.stdout


def test_run_with_ignored_signals_starts_children_that_do_not_ignore_them(tmp_path: Path) -> None:
    done = run_suite(tmp_path, CHILD, ci=False, as_root=True, before="trap '' INT HUP")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_run_with_an_ignored_hangup_survives_one(tmp_path: Path) -> None:
    hang_up = "import os, signal\ndef test_hang_up(): os.kill(os.getpid(), signal.SIGHUP)"
    done = run_suite(tmp_path, hang_up, ci=False, as_root=True, before="trap '' HUP")
    assert "2 passed" in done.stdout


# --- what root leaves in a user's clone ---------------------------------------------------------


@pytest.fixture
def users_clone(tmp_path: Path) -> Path:
    """A clone of user 20001, with a file of user 20003 in it."""
    (tmp_path / "testbed").mkdir()
    shutil.copy(ROOT / "testbed/give_back.sh", tmp_path / "testbed")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 20001, 20002)
    (tmp_path / "other").touch()
    os.chown(tmp_path / "other", 20003, 20003)
    return tmp_path


@pytest.mark.root
def test_files_that_root_made_go_to_the_owner_of_the_clone(users_clone: Path) -> None:
    program = "mkdir -p a/__pycache__; touch a/__pycache__/b; ln -s /etc/passwd c; exit 3"
    done = subprocess.run([users_clone / "testbed/give_back.sh", "sh", "-c", program], check=False)
    assert done.returncode == 3
    for name in ("a", "a/__pycache__/b", "c"):
        status = (users_clone / name).lstat()
        assert (status.st_uid, status.st_gid) == (20001, 20002), name
    assert (users_clone / "other").stat().st_uid == 20003
    assert Path("/etc/passwd").stat().st_uid == 0


# Creates a file, waits for an interrupt, and then creates another one.
INTERRUPTED: Final = """\
import pathlib, time
try:
    pathlib.Path("first").touch()
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path("last").touch()
    raise SystemExit(5)
"""


@pytest.mark.root
@pytest.mark.parametrize("target", ["the script", "its parent"])
def test_interrupted_command_cleans_up_and_its_files_are_given_back(
    users_clone: Path, target: str
) -> None:
    command = [str(users_clone / "testbed/give_back.sh"), sys.executable, "-c", INTERRUPTED]
    parent = ["sh", "-c", '"$@"; exit', "sh"] if target == "its parent" else []
    process = subprocess.Popen([*parent, *command])
    eventually((users_clone / "first").exists, "the command")
    if target == "its parent":
        process.kill()
        process.wait()
    else:
        process.terminate()
        assert process.wait(20) == 5
    last = users_clone / "last"
    eventually(lambda: last.exists() and last.stat().st_uid == 20001, "the owner's file")
    assert (users_clone / "first").stat().st_uid == 20001


def test_each_command_of_make_that_creates_files_gives_them_back() -> None:
    recipes = re.findall(r"^\t(.*(?:prepare\.sh|\.venv/bin).*)$", MAKEFILE, re.MULTILINE)
    commands = [line for line in recipes if "rm -rf" not in line]
    assert len(commands) >= 10
    for command in commands:
        assert re.match(r"@(CI=1 exec )?testbed/give_back\.sh ", command), command


def test_make_clean_leaves_nothing_that_was_built(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = [tmp_path / "vknet/a.py", tmp_path / "docs/page.md"]
    made = ["vknet/__pycache__/a.pyc", "tests/x/__pycache__/b.pyc", ".venv/x", ".nox/x", "dist/x",
            "build/x", "vknet.egg-info/x", ".coverage", ".coverage.host.1.x", ".fuzz/x",
            ".hypothesis/x", ".mypy_cache/x", ".pytest_cache/x", ".ruff_cache/x"]  # fmt: skip
    for path in (*kept, *(tmp_path / name for name in made)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept, tmp_path / "Makefile"}
