"""The command line: `jupyter portproxy`."""
