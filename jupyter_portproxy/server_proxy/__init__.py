"""The configuration of jupyter-server-proxy: entry points and `c.ServerProxy`, read and checked."""
