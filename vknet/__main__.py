"""``python -m vknet``."""

from vknet.cli.vknet import main

if __name__ == "__main__":
    main()
