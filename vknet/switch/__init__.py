"""The learning Ethernet switch, and vknetd: any endpoints for ports, a MAC table between them."""
