"""``python -m fuzz``: what it says, replays and keeps, with a program in place of atheris."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from fuzz import __main__ as command
from fuzz import runner
from fuzz.targets import NAMES

ROOT: Final = Path(__file__).resolve().parent.parent.parent

# Writes what libFuzzer writes about a crash; its arguments are those of a Python.
ENGINE: Final = """\
#!/bin/sh
for word in "$@"; do
    case $word in -artifact_prefix=*) prefix=${word#*=} ;; esac
done
printf bad >"${prefix}crash-1"
echo 'INFO: Seed: 1'
echo 'AssertionError: pieces change what is decoded'
echo 'stat::number_of_executed_units: 1234'
exit 77
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "FILES", tmp_path / "files")
    return tmp_path / "files"


def use_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    engine = tmp_path / "engine"
    engine.write_text(text)
    engine.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(engine))


def test_failure_is_shown_with_its_file(
    tmp_path: Path,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_engine(tmp_path, monkeypatch, ENGINE)
    result = runner.run("decoder", seconds=1, runs=None)
    assert (result.status, result.executions) == (77, 1234)
    assert result.failures == (files / "decoder/crash-1",)
    assert result.traceback == "AssertionError: pieces change what is decoded"
    command.show(result)
    shown = capsys.readouterr().out
    assert "1,234 inputs" in shown
    assert f"python -m fuzz decoder {files}/decoder/crash-1" in shown


def test_run_has_the_seeds_and_the_words_of_its_target(
    tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_engine(tmp_path, monkeypatch, "#!/bin/sh\nexit 0\n")
    result = runner.run("hello", seconds=None, runs=5)
    assert result.status == 0
    assert len([*(files / "hello/corpus").iterdir()]) >= 6
    assert '"\\x6e\\x75\\x6c\\x6c"' in (files / "hello/words").read_text().splitlines()


def test_all_targets_share_the_time(
    tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "arguments"
    use_engine(tmp_path, monkeypatch, f'#!/bin/sh\necho "$@" >>{log}\n')
    results = runner.run_all(NAMES, seconds=70, jobs=2)
    assert [result.target for result in results] == [*NAMES]
    assert log.read_text().count("-max_total_time=20 ") == len(NAMES)


def test_input_is_replayed_without_atheris(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"\0\2\1+xiZ\1\0\0\0a")
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "decoder", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "decoder: 1 inputs, nothing found\n"


def test_without_atheris_the_message_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "has_atheris", lambda: False)
    monkeypatch.setattr(sys, "argv", ["fuzz", "decoder"])
    assert command.main() == 2
    assert "pip install --editable '.[fuzz]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["--all", "decoder"], ["--all", "--runs", "5"], ["nothing"]]
)
def test_wrong_arguments_are_refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", *arguments])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "usage: python -m fuzz" in capsys.readouterr().err
