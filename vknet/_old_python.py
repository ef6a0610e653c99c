"""Refuses a Python that is too old, in one line.  It is valid in any Python from 2.7 on."""

import os
import sys

message = "Python 3.11 or later is needed, and this is %d.%d.%d (%s)" % (
    sys.version_info[:3] + (sys.executable,)
)
name = os.path.basename(sys.argv[0]) if sys.argv else ""
if name == "-m" or (name == "-c" and sys.version_info < (3,)):
    # python -m vknet
    name = "vknet"
if name in ("vknet", "vknetd"):
    sys.stderr.write("%s: %s\n" % (name, message))
    sys.exit(1)
raise ImportError("vknet: " + message)
