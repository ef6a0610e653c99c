"""Hosts and users that ssh takes: the real ssh gets them as they are, and so does a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from vknet.errors import UsageError
from vknet.spec import parse_target
from vknet.transport.ssh_command import SshSettings, ssh_argv

if TYPE_CHECKING:
    from pathlib import Path

    from vknet.spec import Target

TAKEN = [
    "a+b",
    "a/b",
    "prod/web-1.example",
    "bücher",
    "bu\u0308cher",
    "例え",
    "دبي",
    "vsock/4711",
    "vsock%4711",
    "unix/run/ssh-unix-local/socket",
    "machine/.host",
    ".host",
    "user%realm@host",
    "host/admin@host",
    "jürgen@bücher",
    "me+x%y/z@a+b%c/d",
    "svc$@host",
]

REFUSED = [
    *("a;b", "a b", "a|b", "a&b", "a<b", "a>b", "a$b", "a`b", "a'b", 'a"b', "a\\b", "a(b)"),
    *("a{b,c}", "a*b", "a?b", "a!b", "a#b", "~a", "a~b", "=a", "a=b", "a,b", "a^b", "%a", "+a"),
    *("/a", "a//b", "a/", "../a", "a/../b", "a/./b", "./a", "a\u00a0b", "a\u2028b", "a\u200bb"),
    *("a\u202eb", "a\u0085b", "\u2010a", "😀", "a\udcffb", "$@host", "a\\b@host", "-a@host"),
]


SHELLS = [shell for shell in ("sh", "bash", "zsh", "fish", "tcsh") if shutil.which(shell)]


def login_of(target: Target) -> str:
    argv = ssh_argv(SshSettings(target))
    return argv[argv.index("--") + 1]


@pytest.mark.parametrize("text", TAKEN)
def test_name_that_ssh_takes_is_taken(text: str) -> None:
    target = parse_target(f"{text}:auto")
    assert login_of(target) == text
    done = subprocess.run(
        ["ssh", "-F", "none", "-G", "--", text],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    printed = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    # ssh writes host names in lower case.
    assert printed["hostname"] == target.host.lower()
    assert target.user in (None, printed["user"])


@pytest.mark.parametrize("shell", SHELLS)
def test_taken_names_are_single_words_in_the_commands_of_the_configuration(
    tmp_path: Path, shell: str
) -> None:
    out = tmp_path / "out"
    script = tmp_path / "proxy"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$#" "$@" >{out}\n')
    script.chmod(0o755)
    for text in TAKEN:
        if text.startswith("svc$") and shell in ("fish", "tcsh"):
            # They take any dollar sign for a variable, and refuse.
            continue
        target = parse_target(f"{text}:auto")
        subprocess.run(
            [
                *("ssh", "-F", "none", "-o", "BatchMode=yes"),
                *("-o", f"ProxyCommand={script} %h %r", "--", login_of(target)),
            ],
            env=os.environ | {"SHELL": str(shutil.which(shell))},
            capture_output=True,
            check=False,
            timeout=60,
        )
        words = out.read_text().splitlines()
        assert words[:2] == ["2", target.host.lower()], text
        assert target.user in (None, words[2])


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_name_with_a_meaning_for_a_shell_or_a_path_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"letters, digits and \. _") as caught:
        parse_target(f"{text}:auto")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["bücher", "ソ", "jürgen@host"])
def test_letter_whose_bytes_a_shell_would_read_otherwise_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    # In Shift JIS, the second byte of some letters is a backslash.
    monkeypatch.setattr(os, "fsencode", lambda char: b"\x83\\" if not char.isascii() else b"x")
    with pytest.raises(UsageError):
        parse_target(f"{text}:auto")


def test_letter_outside_the_character_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsencode", lambda char: char.encode("latin-1"))
    assert parse_target("bücher").host == "bücher"
    with pytest.raises(UsageError):
        parse_target("例え")
