"""Two hosts on one machine: namespaces, a real sshd, a cable between them.

The host tests, the demo and the benchmarks use it.  It needs root.  It changes nothing outside the
namespaces, and the kernel removes everything when the process that made it ends, even by SIGKILL.
"""
