#!/bin/sh
# Run a command as root in a clone that belongs to a user, and leave no file of root's there.
#
#   testbed/give_back.sh COMMAND [ARGUMENT...]
#
# When the command has ended, every file of root's in the clone (venvs, caches, bytecode, results) is
# given to the owner of the clone's directory.  The exit status is that of the command.
#
# SIGTERM and SIGHUP interrupt the command, as Ctrl-C does, and so does the end of the process that
# started this script, such as make: the command cleans up, and then the files are given back.
set -u
if [ "${1-}" != --bound ]; then
    exec setpriv --pdeathsig TERM "$0" --bound "$@"
fi
shift
cd "$(dirname "$0")/.."
# Ctrl-C also reaches the command.
trap : INT
trap 'kill -INT "$command" 2>/dev/null' TERM HUP
# A shell starts a background command without stdin, and with these signals ignored.
env --default-signal=INT,QUIT "$@" <&0 &
command=$!
while :; do
    wait "$command"
    status=$?
    # A signal also ends the wait.
    kill -0 "$command" 2>/dev/null || break
done
trap '' INT TERM HUP
owner=$(stat -c %u:%g .)
if [ "$(id -u)" -eq 0 ] && [ "${owner%%:*}" -ne 0 ]; then
    find . -xdev -uid 0 -exec chown -h "$owner" {} +
fi
exit "$status"
