"""Requests from Jupyter's HTTP server: routing, admission, HTTP, WebSocket, error pages."""
