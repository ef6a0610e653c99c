"""Measurements, always side by side in one run: single absolute times mean nothing."""
