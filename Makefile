# make demo    see two hosts joined, in namespaces of their own
# make test    everything: ruff, mypy, unit, property and host tests; a skipped test is a failure
# make bench   vknet beside its peers, about half an hour: docs/benchmarks.*
#              (less of it: make bench ROUNDS=1 SECONDS=2 TO=/tmp/bench)
# make bench-wan   a ping under load on long and slow paths, about an hour: the same page
#              (less of it: make bench-wan ROUNDS=1 TO=/tmp/bench)
# make clean   remove what these made in this folder
#
# All but `make clean` need root.  What root makes in this folder is given to the folder's owner.

HOSTS = openssh-server openssh-client iproute2 iputils-ping

# How often each tool has its turn, how long a test of throughput takes, and where the page goes.
ROUNDS = 3
SECONDS = 5
TO = docs

.PHONY: demo test bench bench-wan clean

demo:
	@testbed/prepare.sh demo $(HOSTS)
	@testbed/give_back.sh .venv/bin/python -m demo

test:
	@testbed/prepare.sh test $(HOSTS) nftables tcpdump procps mandoc systemd user-mode-linux busybox-static
	@CI=1 testbed/give_back.sh .venv/bin/nox

bench:
	@testbed/prepare.sh bench $(HOSTS) iperf3 openssl openvpn vde2 vdeplug gcc libc6-dev
	@testbed/give_back.sh .venv/bin/python -m bench --rounds $(ROUNDS) --seconds $(SECONDS) --to $(TO)
	@testbed/give_back.sh .venv/bin/python -m bench.plot $(TO)/benchmarks.json $(TO)/benchmarks.png

bench-wan:
	@testbed/prepare.sh bench $(HOSTS)
	@testbed/give_back.sh .venv/bin/python -m bench.wan --rounds $(ROUNDS) --to $(TO)
	@testbed/give_back.sh .venv/bin/python -m bench.wan_plot $(TO)/benchmarks-wan.json $(TO)/benchmarks-wan.png

clean:
	rm -rf .venv .nox .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache \
		build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
