"""Which host a project is on: tables in Postgres or in a SQLite file, written by `admin`, read by a server (`lookup`, `cache`).

`store` is the interface of the two databases: `postgres` with `postgres_schema`, and `sqlite` with `sqlite_schema`.

States of a server's placements, changed by `lookup.Placement._follow` only:
- unavailable, at first: look-ups raise RegistryAway.
- available: a connection follows the changes. The key of a changed project is dropped from the cache.
- unavailable, after having been available: cached placements are used for `serve_stale` seconds, then look-ups raise
  RegistryAway. With the next connection all cached placements become stale, for changes may have been missed.

States of a host, in `project_hosts.status`: up, draining (it keeps its projects and gets no others) or down, as an administrator
sets it. Besides, a host is silent without a heartbeat for three intervals; `lookup` derives that from `last_seen`, which
heartbeats set. The host `local` is this machine: it needs no heartbeat. Projects of a host that is down or silent are not served.

A project is not placed (no host) or placed. Its generation rises with each change of its host (a trigger), as a host's does
with each change of its URL or credential: with another generation, open tunnels are closed.

The states of one cached look-up are in `cache`, the states of a connection in `postgres` and `sqlite`.
"""
