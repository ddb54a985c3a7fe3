"""Pure rules of URLs, header fields, credentials and framing: no I/O, no Tornado."""
