# make demo    see two hosts joined, in namespaces of their own
# make test    everything: ruff, mypy, unit, property and host tests
# make clean   remove what these two made in this folder

HOSTS = openssh-server openssh-client iproute2 iputils-ping

.PHONY: demo test clean

demo:
	@testbed/prepare.sh demo $(HOSTS)
	@.venv/bin/python -m demo

test:
	@testbed/prepare.sh test $(HOSTS) tcpdump procps mandoc systemd user-mode-linux busybox-static
	@.venv/bin/nox

clean:
	rm -rf .venv .nox .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
