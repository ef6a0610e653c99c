"""Measurements.  Each run compares, because absolute figures depend on the machine and the moment.

    sudo make bench                  vknet beside other tunnels: docs/benchmarks.{md,json,png}
    sudo make bench-wan              the same on long and slow paths: the same page
    sudo python -m bench.window      the cost of the window on a LAN
    sudo python -m bench.round_trips the idle round trip beside bare loops
    sudo python -m bench.healing     the time that a link takes to heal, by failure
    python -m bench.switching        vknetd beside vde_switch
    python -m bench.codec            the codec alone
    python -m bench.queueing         the flow queue alone
    python -m bench.endpoints        each endpoint alone; the TAP as root only

Modules of `make bench`: `tools` and `pipe` start what is measured, `measures` measures it,
`processes` reads CPU time and memory, `figures` names the results, `report`, `page` and `plot`
present them.  `make bench-wan` adds `wan`, `loads`, `flows`, `datagrams`, `wan_report` and
`wan_plot`.
"""
