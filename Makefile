# make demo        show two hosts being joined, in network namespaces
# make test        run ruff, mypy, all tests (unit, property, host) and the fuzzers; a skipped test is a
#                  failure
# make soak        run the slow tests: what each fault does to a link, fifty restarts
# make coverage    run all tests, and report the share of the code that they run
# make bench       measure vknet beside other tunnels, about half an hour: docs/benchmarks.*
#                  (shorter: make bench ROUNDS=1 SECONDS=2 TO=/tmp/bench)
# make bench-wan   measure pings under load on long and slow paths, about an hour: the same page
#                  (shorter: make bench-wan ROUNDS=1 TO=/tmp/bench)
# make clean       remove the files that these targets created in this directory
#
# All targets except clean need root.  Files that root creates in this directory are given to the
# owner of the directory.

HOSTS = openssh-server openssh-client iproute2 iputils-ping
TESTS = $(HOSTS) nftables tcpdump procps mandoc systemd user-mode-linux busybox-static

# The number of rounds, the duration of each throughput test, and the directory of the results.
ROUNDS = 3
SECONDS = 5
TO = docs

.PHONY: demo test soak coverage bench bench-wan clean

demo:
	@testbed/give_back.sh testbed/prepare.sh demo $(HOSTS)
	@testbed/give_back.sh .venv/bin/python -m demo

test:
	@testbed/give_back.sh testbed/prepare.sh test $(TESTS)
	@CI=1 exec testbed/give_back.sh .venv/bin/nox

soak:
	@testbed/give_back.sh testbed/prepare.sh test $(TESTS)
	@testbed/give_back.sh .venv/bin/nox -s soak

coverage:
	@testbed/give_back.sh testbed/prepare.sh test $(TESTS)
	@testbed/give_back.sh .venv/bin/nox -s coverage

bench:
	@testbed/give_back.sh testbed/prepare.sh bench $(HOSTS) iperf3 openssl openvpn vde2 vdeplug gcc libc6-dev
	@testbed/give_back.sh .venv/bin/python -m bench --rounds $(ROUNDS) --seconds $(SECONDS) --to $(TO)
	@testbed/give_back.sh .venv/bin/python -m bench.plot $(TO)/benchmarks.json $(TO)/benchmarks.png

bench-wan:
	@testbed/give_back.sh testbed/prepare.sh bench $(HOSTS)
	@testbed/give_back.sh .venv/bin/python -m bench.wan --rounds $(ROUNDS) --to $(TO)
	@testbed/give_back.sh .venv/bin/python -m bench.wan_plot $(TO)/benchmarks-wan.json $(TO)/benchmarks-wan.png

clean:
	@rm -rf .venv .nox .coverage .coverage.* .fuzz .hypothesis .mypy_cache .pytest_cache .ruff_cache \
		build dist *.egg-info 2>/dev/null; status=$$?; \
	find . -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null && [ $$status = 0 ] || { \
		echo "some files here belong to another user: sudo make clean" >&2; exit 1; }
