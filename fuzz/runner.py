"""Start targets as processes, and read what libFuzzer says of them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fuzz.targets import load

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["INTERRUPTED", "NO_ATHERIS", "Result", "has_atheris", "replay", "run", "run_all"]

ROOT: Final = Path(__file__).resolve().parent.parent
FILES: Final = ROOT / ".fuzz"

MEMORY_MAX_MB: Final = 1024
HANG_S: Final = 20
# The exit status of libFuzzer after SIGINT.
INTERRUPTED: Final = 72

NO_ATHERIS: Final = (
    "fuzzing needs atheris, which has wheels for Linux on x86-64:"
    " .venv/bin/pip install --editable '.[fuzz]'"
)

NOISE: Final = ("INFO: ", "WARNING: ", "Done ", "stat::", "#", "NEW_FUNC", "\t", "######", '"')


@dataclass(frozen=True)
class Result:
    """The end of a target.

    Attributes:
        target: its name.
        status: the exit status; 0 if nothing was found.
        executions: the number of inputs that were run.
        cpu_s: the processor time that they took, in seconds.
        failures: the files of inputs that failed.
        log: the output of the process.
    """

    target: str
    status: int
    executions: int
    cpu_s: float
    failures: tuple[Path, ...]
    log: Path

    def __str__(self) -> str:
        rate = self.executions / max(self.cpu_s, 0.001)
        text = f"{self.target:10} {self.executions:>11,} inputs, {rate:>6,.0f} a second of CPU time"
        return text if self.status == 0 else f"{text}, FAILED"

    @property
    def traceback(self) -> str:
        """The part of the log that tells why it failed."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if not line.startswith(NOISE))


def has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def run(name: str, *, seconds: float | None, runs: int | None) -> Result:
    """Run one target.

    Args:
        name: of the target.
        seconds: how long; None for no limit.
        runs: the number of inputs; None for no limit.
    """
    directory = FILES / name
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    target = load(name)
    for seed in target.seeds().values():
        (corpus / f"seed-{hashlib.sha256(seed).hexdigest()[:16]}").write_bytes(seed)
    words = directory / "words"
    words.write_text("".join(f'"{escape(word)}"\n' for word in target.WORDS))
    log = directory / "log"
    before = set(directory.glob("*-*"))
    options = [
        f"-max_len={target.MAX_SIZE}",
        f"-dict={words}",
        f"-artifact_prefix={directory}/",
        f"-rss_limit_mb={MEMORY_MAX_MB}",
        f"-timeout={HANG_S}",
        "-print_final_stats=1",
        *([f"-max_total_time={max(1, round(seconds))}"] if seconds is not None else []),
        *([f"-runs={runs}"] if runs is not None else []),
        str(corpus),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.engine", name, *options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        status, cpu_s = wait_for(process)
    text = log.read_text(errors="replace")
    found = re.search(r"^stat::number_of_executed_units: +(\d+)", text, re.MULTILINE)
    failures = tuple(sorted(set(directory.glob("*-*")) - before))
    executions = int(found[1]) if found else 0
    return Result(name, status, executions, cpu_s, failures, log)


def wait_for(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Wait for the end of a process; return its exit status and the processor time it took."""
    while True:
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            # The process got the signal of the terminal as well, and ends with its figures.
            continue
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, usage.ru_utime + usage.ru_stime


def run_all(names: Sequence[str], *, seconds: float, jobs: int) -> list[Result]:
    """Run targets side by side, each for its share of the time."""
    share = seconds * jobs / len(names)
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda name: run(name, seconds=share, runs=None), names))


def escape(word: bytes) -> str:
    """Return bytes as a dictionary of libFuzzer has them."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def replay(name: str, paths: Sequence[Path]) -> None:
    """Run a target on files, without atheris.

    Raises:
        AssertionError: as the target does.
    """
    target = load(name)
    for path in paths:
        target.run(path.read_bytes())
