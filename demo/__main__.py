"""``python -m demo``: show two hosts being joined; Ctrl-C ends that with one line."""

from __future__ import annotations

import sys

# That of a shell for a command that SIGINT ended.
INTERRUPTED = 130


def main() -> int:
    """Run the demo; return the exit status."""
    try:
        from demo.show import show

        show()
    except KeyboardInterrupt:
        print("\ninterrupted; the hosts and their files are removed", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
