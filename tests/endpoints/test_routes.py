"""Host routes: what the answers of the kernel mean."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from inspect import unwrap
from typing import TYPE_CHECKING, Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from vknet import SetupError
from vknet.endpoints import routes
from vknet.endpoints.routes import OtherRouteError, Route, RouteRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

# The functions without the child process.
add_host_route = unwrap(routes.add_host_route)
delete_host_route = unwrap(routes.delete_host_route)
route_to = unwrap(routes.route_to)

PEER = "198.18.9.9"
OUTSIDE = Route(PEER, 2, "wan0", None, "198.18.0.2")


class Message(dict[str, Any]):
    """Attributes, read as in pyroute2."""

    def get_attr(self, name: str) -> Any:
        return self.get(name)


class Kernel:
    """Answers requests for routes."""

    def __init__(self) -> None:
        self.error = 0
        self.answer = Message(RTA_OIF=2, RTA_GATEWAY="198.18.0.2")
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def route(self, command: str, **request: Any) -> list[Message]:
        self.requests.append((command, request))
        if command != "get" and self.error:
            raise NetlinkError(self.error, "refused")
        return [self.answer]

    def get_links(self, index: int) -> list[Message]:
        return [Message(IFLA_IFNAME={2: "wan0", 7: "tap0"}[index])]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()

    @contextmanager
    def open_netlink() -> Iterator[Kernel]:
        yield kernel

    monkeypatch.setattr(routes, "open_netlink", open_netlink)
    return kernel


def test_same_host_route_that_exists_is_no_error(kernel: Kernel) -> None:
    kernel.error = errno.EEXIST
    add_host_route(OUTSIDE)


@pytest.mark.parametrize(
    "answer",
    [
        Message(RTA_OIF=7, RTA_GATEWAY="198.18.1.2"),
        Message(RTA_OIF=2, RTA_GATEWAY="198.18.0.3"),
        Message(),
    ],
)
def test_other_host_route_that_exists_is_an_error(kernel: Kernel, answer: Message) -> None:
    kernel.error = errno.EEXIST
    kernel.answer = answer
    with pytest.raises(OtherRouteError):
        add_host_route(OUTSIDE)


def test_refusal_is_an_error(kernel: Kernel) -> None:
    kernel.error = errno.EPERM
    with pytest.raises(RouteRefusedError, match="refused"):
        add_host_route(OUTSIDE)
    with pytest.raises(SetupError, match="refused"):
        delete_host_route(OUTSIDE)


def test_absent_host_route_is_deleted_without_error(kernel: Kernel) -> None:
    kernel.error = errno.ESRCH
    delete_host_route(OUTSIDE)


def test_only_routes_of_vknet_are_deleted(kernel: Kernel) -> None:
    add_host_route(OUTSIDE)
    delete_host_route(OUTSIDE)
    (_, added), (_, deleted) = kernel.requests
    assert added == deleted
    assert deleted["proto"] == routes.ROUTE_PROTOCOL


def test_router_of_another_family_is_not_taken_for_none(kernel: Kernel) -> None:
    assert route_to(PEER) == OUTSIDE
    kernel.answer = Message(RTA_OIF=2, RTA_VIA={"family": 10, "addr": "fe80::1"})
    assert route_to(PEER) == Route(PEER, 2, "wan0", None, "fe80::1", is_plain=False)
