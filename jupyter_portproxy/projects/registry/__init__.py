"""Which local port a project has on its host: leases in SQLite."""
