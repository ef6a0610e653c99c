#!/bin/sh
# Prepare this machine: install missing Debian packages, and create a venv in the repository.
#
#   testbed/prepare.sh PURPOSE PACKAGE...
#
# PURPOSE is the target of make.  The venv is .venv.  It holds an editable vknet; for tests also nox,
# which creates venvs of its own; for benchmarks also matplotlib.
set -eu
cd "$(dirname "$0")/.."
purpose=$1
shift

if [ "$(id -u)" -ne 0 ]; then
    echo "make $purpose creates network namespaces and needs root: sudo make $purpose" >&2
    exit 1
fi
if [ ! -c /dev/net/tun ]; then
    echo "make $purpose needs /dev/net/tun, which does not exist: modprobe tun" >&2
    exit 1
fi

PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "vknet needs Python 3.11 or later; name it: sudo make $purpose PYTHON=python3.12" >&2
    exit 1
}
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || set -- "$@" python3-venv

missing=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        missing="$missing $package"
done
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || {
        echo "there is no apt-get here; install these packages by hand:$missing" >&2
        exit 1
    }
    echo "installing Debian packages:$missing"
    # Keep apt from starting sshd on the machine itself; the tests start one in a namespace.  The
    # policy file (invoke-rc.d(8)) is removed at exit and on a signal.  If it outlives this shell
    # (SIGKILL, power loss), it allows everything from then on, and the next run removes it.
    policy=/usr/sbin/policy-rc.d
    marker="# made by vknet's testbed/prepare.sh"
    if [ -e "$policy" ] && grep -qxF "$marker" "$policy" && "$policy"; then
        rm -f "$policy"
    fi
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 129' HUP
        trap 'exit 130' INT
        trap 'exit 143' TERM
        cat >"$policy" <<EOF
#!/bin/sh
$marker
grep -q prepare.sh /proc/$$/cmdline 2>/dev/null && exit 101
exit 0
EOF
        chmod +x "$policy"
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

stamp=.venv/.prepared-$purpose
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    echo "preparing a venv in .venv"
    "$PYTHON" -m venv .venv
    case $purpose in
    test) extra=nox ;;
    bench) extra="matplotlib>=3.8" ;;
    *) extra= ;;
    esac
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable . $extra
    touch "$stamp"
fi
