"""Cables with delay, limited rate, loss and reordering, for simulations.

`Cable` carries frames between any two endpoints of this library, such as memory and TAP endpoints.
`Path` gives the properties of one direction, in the terms of tc-netem(8) and tc-tbf(8)::

    import trio
    import vknet
    from vknet.sim import Cable, Path

    async def main() -> None:
        a, inner_a = vknet.memory_endpoint_pair()
        b, inner_b = vknet.memory_endpoint_pair()
        dsl = Cable(
            inner_a, inner_b,
            there=Path(delay=0.015, rate=10e6, latency=0.5),
            back=Path(delay=0.015, rate=2e6, latency=0.5, loss=0.001),
            seed=1,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dsl.run)
            ...

Under trio's `MockClock` it runs on virtual time.  With the same seed and the same frames, it makes
the same decisions.  ``python -m vknet.sim`` joins two TAP interfaces by such a cable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vknet._lazy import exports

if TYPE_CHECKING:
    from vknet.sim.cable import Cable
    from vknet.sim.path import Counts, Impairment, Path

__all__ = ["Cable", "Counts", "Impairment", "Path"]

_HOMES: Final = {
    "vknet.sim.path": ("Counts", "Impairment", "Path"),
    "vknet.sim.cable": ("Cable",),
}

if not TYPE_CHECKING:
    __getattr__ = exports(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
