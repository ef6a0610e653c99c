"""Containers: how they are recognised, and what they are told."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from vknet.endpoints import tap_attach
from vknet.endpoints.container import CURES, OTHER_CURE, container_cure, is_user_namespace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("container", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("path", "text", "cure"),
    [
        (".dockerenv", "", CURES["docker"]),
        ("run/.containerenv", "", CURES["podman"]),
        ("run/systemd/container", "systemd-nspawn\n", CURES["systemd-nspawn"]),
        ("run/systemd/container", "lxc\n", CURES["lxc"]),
        ("run/systemd/container", "lxc-libvirt\n", CURES["lxc"]),
        ("run/systemd/container", "rkt\n", OTHER_CURE),
        ("etc/hostname", "host\n", None),
    ],
)
def test_file_names_the_container(tmp_path: Path, path: str, text: str, cure: str | None) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert container_cure(tmp_path) == cure


def test_variable_names_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("container", "podman")
    assert container_cure(tmp_path) == CURES["podman"]
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "198.18.0.1")
    assert container_cure(tmp_path) == CURES["kubernetes"]


@pytest.mark.parametrize(
    ("text", "mapped"),
    [("0 0 4294967295\n", False), ("0 1000 1\n", True), ("0 100000 65536\n", True)],
)
def test_user_namespace_is_recognised(tmp_path: Path, text: str, mapped: bool) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/uid_map").write_text(text)
    assert is_user_namespace(tmp_path) is mapped


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM, errno.ENXIO])
def test_missing_device_in_a_container_has_the_cure_of_the_container(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap_attach, "container_cure", lambda: "the cure")
    message = tap_attach._why_no_device(OSError(number, ""))
    assert message.endswith("; this is a container: the cure")
    assert "as root" not in message


@pytest.mark.parametrize(
    ("cure", "is_mapped", "text"),
    [
        ("the cure", False, "this is a container: the cure"),
        (None, True, "root of a user namespace"),
        (None, False, "without the capability CAP_NET_ADMIN"),
    ],
)
def test_missing_right_names_what_gives_it(
    cure: str | None, is_mapped: bool, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(tap_attach, "container_cure", lambda: cure)
    monkeypatch.setattr(tap_attach, "is_user_namespace", lambda: is_mapped)
    assert text in str(tap_attach._why_not("tap9", None, OSError(errno.EPERM, "")))
