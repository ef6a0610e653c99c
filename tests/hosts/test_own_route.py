"""A default route through the link itself: it is named, and the link survives."""

from __future__ import annotations

from testbed.hosts import Bed, eventually
from testbed.program import Program


def test_default_route_through_the_link_is_healed_by_a_host_route(bed: Bed) -> None:
    here, there = bed.here, bed.there
    # The address of sshd is beyond a gateway.
    there.ip("addr", "add", "198.18.9.9/32", "dev", "lo")
    here.ip("route", "add", "default", "via", bed.THERE4)
    (here.home / ".ssh/config").write_text("Host far\n HostName 198.18.9.9\n HostKeyAlias there\n")
    vknet = Program(here, "vknet", "-v", "-r", "1", "--timeout", "6", "auto", "root@far:auto")
    vknet.says("link up")
    vknet.says(
        f"the connection takes this route: ip route add 198.18.9.9 via {bed.THERE4} dev wan0"
    )
    for host, number in ((here, 1), (there, 2)):
        host.ip("addr", "add", f"198.18.1.{number}/24", "dev", "tap0")
    eventually(lambda: here.reaches("198.18.1.2", 0.5), "a ping through the link")

    here.ip("route", "replace", "default", "via", "198.18.1.2", "dev", "tap0")
    line = vknet.says("the route to 198.18.9.9 leads through tap0 itself")
    assert f"ip route add 198.18.9.9 via {bed.THERE4} dev wan0" in line
    vknet.says("vknet has added this route")
    assert f"via {bed.THERE4} dev wan0" in here.ip("route", "show", "198.18.9.9")
    # On a slow machine the link is lost before the route is there.  The next one has another TAP on
    # the other side, without an address.
    eventually(
        lambda: here.reaches("198.18.1.2", 0.5) or vknet.log.count("link up") > 1,
        "a link that works",
    )
    assert vknet.stop() == 0
    assert here.ip("route", "show", "198.18.9.9") == ""
