"""vknetd: the Ethernet switch that local programs plug into."""
