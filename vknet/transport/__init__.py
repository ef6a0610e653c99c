"""Byte streams that carry a link."""
