"""Public names that a package imports when they are first used."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import vknet
import vknet.endpoints
import vknet.sim
from vknet._lazy import exports
from vknet.errors import VknetError

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = [vknet, vknet.endpoints, vknet.sim]


@pytest.fixture
def package() -> Iterator[ModuleType]:
    module = ModuleType("lazy_package")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_lazy_name_is_imported_once_and_kept(package: ModuleType) -> None:
    getattr_ = exports(package.__name__, {"vknet.errors": ("VknetError",)})
    assert not hasattr(package, "VknetError")
    assert getattr_("VknetError") is VknetError
    assert vars(package)["VknetError"] is VknetError


def test_unknown_lazy_name_raises_attribute_error(package: ModuleType) -> None:
    getattr_ = exports(package.__name__, {"vknet.errors": ("VknetError",)})
    with pytest.raises(AttributeError, match="module 'lazy_package' has no attribute 'Nonsense'"):
        getattr_("Nonsense")


@pytest.mark.parametrize("module", PACKAGES, ids=lambda module: module.__name__)
def test_every_public_name_is_found_and_listed(module: ModuleType) -> None:
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("module", PACKAGES, ids=lambda module: module.__name__)
def test_unknown_name_of_a_package_raises_attribute_error(module: ModuleType) -> None:
    with pytest.raises(
        AttributeError, match=f"module '{module.__name__}' has no attribute 'Nonsense'"
    ):
        module.Nonsense  # noqa: B018 - the access is the test


def test_isolated_helper_does_not_load_trio() -> None:
    code = "import sys, vknet.endpoints.isolated; print('trio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
