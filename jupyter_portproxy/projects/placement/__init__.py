"""Which host a project is on: rows in Postgres, cached and watched."""
