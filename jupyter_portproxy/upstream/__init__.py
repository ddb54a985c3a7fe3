"""Connections to upstreams: HTTP exchanges through libcurl, and tunnels."""
