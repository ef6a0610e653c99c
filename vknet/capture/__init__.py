"""Watching a switch: frames as lines of text, or as pcap."""
