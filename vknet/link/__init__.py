"""A link between an endpoint and a byte stream, and what keeps it up."""
