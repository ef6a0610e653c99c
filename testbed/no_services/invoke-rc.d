#!/bin/sh
# Instead of the program of this name, for the maintainer scripts of packages that prepare.sh
# installs: no service is started or restarted on this machine.
exit 0
