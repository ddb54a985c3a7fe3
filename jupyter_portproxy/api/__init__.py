"""The REST API, the list of ports, its page, and metrics."""
