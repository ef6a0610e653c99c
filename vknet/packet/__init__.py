"""The bytes of one frame."""
