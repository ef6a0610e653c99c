"""The vknetd daemon."""
