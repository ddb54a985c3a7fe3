"""Real applications behind the gateway: one file per application, and one runner for all."""
