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
    # Packages must not start services on the machine itself, such as sshd; the tests start one in a
    # namespace.  The maintainer scripts find these programs in place of those that start services.
    # apt-get alone knows of that, so nothing has to be undone, whatever ends this script.
    case $PWD in
    *:*)
        echo "the path of this clone has a colon, which PATH cannot hold: $PWD" >&2
        exit 1
        ;;
    esac
    path="$PWD/testbed/no_services:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        -o DPkg::Path="$path" $missing >/dev/null
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
