# make demo    see two hosts joined, in namespaces of their own
# make test    everything: ruff, mypy, unit, property and host tests
# make bench   vknet beside its peers, about half an hour: docs/benchmarks.*
#              (less of it: make bench ROUNDS=1 SECONDS=2 TO=/tmp/bench)
# make bench-wan   a ping under load on long and slow paths, about an hour: the same page
#              (less of it: make bench-wan ROUNDS=1 TO=/tmp/bench)
# make clean   remove what these made in this folder

HOSTS = openssh-server openssh-client iproute2 iputils-ping

# How often each tool has its turn, how long a test of throughput takes, and where the page goes.
ROUNDS = 3
SECONDS = 5
TO = docs

.PHONY: demo test bench bench-wan clean

demo:
	@testbed/prepare.sh demo $(HOSTS)
	@.venv/bin/python -m demo

test:
	@testbed/prepare.sh test $(HOSTS) tcpdump procps mandoc systemd user-mode-linux busybox-static
	@.venv/bin/nox

bench:
	@testbed/prepare.sh bench $(HOSTS) iperf3 openssl openvpn vde2 vdeplug gcc libc6-dev
	@.venv/bin/python -m bench --rounds $(ROUNDS) --seconds $(SECONDS) --to $(TO)
	@.venv/bin/python -m bench.plot $(TO)/benchmarks.json $(TO)/benchmarks.png

bench-wan:
	@testbed/prepare.sh bench $(HOSTS)
	@.venv/bin/python -m bench.wan --rounds $(ROUNDS) --to $(TO)
	@.venv/bin/python -m bench.wan_plot $(TO)/benchmarks-wan.json $(TO)/benchmarks-wan.png

clean:
	rm -rf .venv .nox .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
