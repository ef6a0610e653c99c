#!/bin/sh
# Run a command as root in a clone that belongs to a user, and leave no file of root's there.
#
#   testbed/give_back.sh COMMAND [ARGUMENT...]
#
# When the command has ended, every file of root's in the clone (venvs, caches, bytecode, results) is
# given to the owner of the clone's directory.  The exit status is that of the command.
set -u
cd "$(dirname "$0")/.."
# A signal from the terminal also reaches the command; this script waits for the end of it.
trap : INT TERM HUP
"$@"
status=$?
owner=$(stat -c %u:%g .)
if [ "$(id -u)" -eq 0 ] && [ "${owner%%:*}" -ne 0 ]; then
    find . -xdev -uid 0 -exec chown -h "$owner" {} +
fi
exit "$status"
