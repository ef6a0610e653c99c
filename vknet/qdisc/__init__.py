"""Queueing discipline: which frames wait, and in which order they leave.  Pure."""
