"""Two hosts on one machine: namespaces, a real sshd, a wire between them.

For the host tests, the demo and the benchmarks.  Needs root.  Nothing outside the namespaces is
changed, and everything is gone when the process that made it ends, however it ends.
"""
