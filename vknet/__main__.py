"""``python -m vknet``."""

from vknet.cli import main

if __name__ == "__main__":
    main()
