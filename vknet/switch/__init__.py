"""A learning Ethernet switch: its ports are endpoints, with a MAC table between them."""
