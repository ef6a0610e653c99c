"""The vknetd daemon: a switch with a socket for clients, an uplink, and a control socket."""
