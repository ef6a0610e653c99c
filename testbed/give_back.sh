#!/bin/sh
# Run a command as root in a user's clone, without leaving root's files there.
#
#   testbed/give_back.sh COMMAND [ARGUMENT...]
#
# When the command ends, every file of root in the clone goes to the owner of the clone's folder:
# venvs, caches, bytecode, results.  The exit status is the command's.
set -u
cd "$(dirname "$0")/.."
# A signal from the terminal goes to the command as well; this script waits for it to end.
trap : INT TERM HUP
"$@"
status=$?
owner=$(stat -c %u:%g .)
if [ "$(id -u)" -eq 0 ] && [ "${owner%%:*}" -ne 0 ]; then
    find . -xdev -uid 0 -exec chown -h "$owner" {} +
fi
exit "$status"
