"""Congestion control: how many bytes may be in flight.  Pure; it knows no protocol."""
