"""`make demo`: join two hosts in network namespaces, and show each step."""
