"""A client that captures the frames of a switch, as lines of text or as pcap."""
