"""Measurements, always side by side in one run: single absolute figures mean nothing.

    make bench                        vknet beside its peers: docs/benchmarks.{md,json,png}
    sudo python -m bench.healing      how long a link takes to heal, by what failed
    python -m bench.codec             the wire's codec on its own; needs no root
    python -m bench.endpoints         each endpoint on its own; the TAP only for root

The grid of `make bench`: `tools` and `pipe` are what is measured, `measures` how, `processes` what
it costs the hosts, `figures` what a figure is called, `report` and `plot` what comes of them.
"""
