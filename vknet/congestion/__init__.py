"""How many bytes may be in flight."""
