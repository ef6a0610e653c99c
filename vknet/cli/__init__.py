"""The commands `vknet` and `vknetd`: their arguments, messages and signals."""
