"""The commands: their arguments, messages and signals."""
