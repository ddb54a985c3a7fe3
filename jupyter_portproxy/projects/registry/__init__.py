"""Which port a project has on its host: a SQLite file, its projects and their leases."""
