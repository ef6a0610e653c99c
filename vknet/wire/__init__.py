"""What the two sides of a link say to each other."""
