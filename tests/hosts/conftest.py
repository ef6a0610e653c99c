"""Every test here gets two hosts of its own, in namespaces, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.hosts import two_hosts
from tests.support.lan import Lan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.hosts import Bed, Host


def pytest_itemcollected(item: pytest.Item) -> None:
    # In this folder only: namespaces need root.
    item.add_marker(pytest.mark.root)


@pytest.fixture
def bed() -> Iterator[Bed]:
    with two_hosts() as bed:
        yield bed


@pytest.fixture
def here(bed: Bed) -> Host:
    return bed.here


@pytest.fixture
def there(bed: Bed) -> Host:
    return bed.there


@pytest.fixture
def lan(bed: Bed) -> Lan:
    return Lan(bed)
