"""vknet joins the Ethernet networks of two hosts over ssh.

An `Endpoint` is a source and sink of whole frames.  A `Transport` provides a byte stream.  A `Link`
joins the two until either side fails.  `keep_linked` starts a new link whenever one has ended.  A
`Monitor` shows the state and the counters of a link.

Two links, each with an endpoint of its own, over any trio stream::

    import trio
    import trio.testing
    import vknet

    async def main() -> None:
        a, inner_a = vknet.memory_endpoint_pair()
        b, inner_b = vknet.memory_endpoint_pair()
        left, right = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vknet.Link(inner_a, vknet.StreamTransport(left)).run)
            nursery.start_soon(vknet.Link(inner_b, vknet.StreamTransport(right)).run)
            await a.send([b"a whole Ethernet frame"])
            print(await b.receive())
            nursery.cancel_scope.cancel()

    trio.run(main)
"""

import sys

# This file has to be valid in any Python, so that an old one gets to the next line.
if sys.version_info < (3, 11):  # noqa: UP036 - pip is not the only way to install
    from vknet import _old_python as _old_python

from vknet._lazy import exports
from vknet._version import __version__

# Not that of typing, which the commands would wait for before they handle signals.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from vknet.counters import Counters, DropReason, TrafficCounters
    from vknet.endpoints import (
        Endpoint,
        MemoryEndpoint,
        SeqpacketEndpoint,
        TapEndpoint,
        memory_endpoint_pair,
        open_endpoint,
    )
    from vknet.errors import (
        EndpointGone,
        LocalProtocolError,
        PeerGone,
        RemoteProtocolError,
        SetupError,
        UsageError,
        VknetError,
    )
    from vknet.link.host_changes import HostChanges
    from vknet.link.link import Link
    from vknet.link.settings import LinkSettings
    from vknet.link.supervisor import keep_linked
    from vknet.monitor import Connecting, Idle, Lost, Monitor, State, Up
    from vknet.packet.ethernet import Frame
    from vknet.spec import RetryPolicy, Target, parse_target
    from vknet.switch.switch import Switch
    from vknet.transport.base import StreamTransport, Transport
    from vknet.transport.ssh import SshDialer, SshTransport
    from vknet.transport.ssh_command import SshSettings
    from vknet.wire.blocks import Wire

__all__ = [
    "Connecting",
    "Counters",
    "DropReason",
    "Endpoint",
    "EndpointGone",
    "Frame",
    "HostChanges",
    "Idle",
    "Link",
    "LinkSettings",
    "LocalProtocolError",
    "Lost",
    "MemoryEndpoint",
    "Monitor",
    "PeerGone",
    "RemoteProtocolError",
    "RetryPolicy",
    "SeqpacketEndpoint",
    "SetupError",
    "SshDialer",
    "SshSettings",
    "SshTransport",
    "State",
    "StreamTransport",
    "Switch",
    "TapEndpoint",
    "Target",
    "TrafficCounters",
    "Transport",
    "Up",
    "UsageError",
    "VknetError",
    "Wire",
    "__version__",
    "keep_linked",
    "memory_endpoint_pair",
    "open_endpoint",
    "parse_target",
]

# The public names, by the module that defines them.
_HOMES = {
    "vknet.transport.base": ("Transport", "StreamTransport"),
    "vknet.endpoints": (
        "Endpoint",
        "MemoryEndpoint",
        "SeqpacketEndpoint",
        "TapEndpoint",
        "memory_endpoint_pair",
        "open_endpoint",
    ),
    "vknet.errors": (
        "EndpointGone",
        "LocalProtocolError",
        "PeerGone",
        "RemoteProtocolError",
        "SetupError",
        "UsageError",
        "VknetError",
    ),
    "vknet.framing": ("Frame", "Wire"),
    "vknet.link.host_changes": ("HostChanges",),
    "vknet.link.link": ("Link",),
    "vknet.link.settings": ("LinkSettings",),
    "vknet.counters": ("Counters", "DropReason", "TrafficCounters"),
    "vknet.monitor": ("Connecting", "Idle", "Lost", "Monitor", "State", "Up"),
    "vknet.link.supervisor": ("keep_linked",),
    "vknet.spec": ("RetryPolicy", "Target", "parse_target"),
    "vknet.transport.ssh": ("SshTransport", "SshDialer"),
    "vknet.transport.ssh_command": ("SshSettings",),
    "vknet.switch.switch": ("Switch",),
}

if not TYPE_CHECKING:
    __getattr__ = exports(__name__, _HOMES)


__dir__ = __all__.copy
