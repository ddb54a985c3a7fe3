"""The tables of placements, as numbered migrations, and the statements on them. PostgreSQL 13 or newer.

Triggers and constraints keep generations, the table of changes, notifications and the values of rows right, so that a change
by hand in SQL has the same effect as one by `admin`.
"""

from __future__ import annotations

from . import store
from .store import MAX_CHANGES, MAX_VISIBLE

CHANNEL = "portproxy_placement"
LOCK = 5071_2091  # of the advisory lock under which migrations run

_TABLES = """
create sequence placement_generation;

create table project_hosts (
    host_id text primary key check (host_id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    internal_url text not null,
    status text not null default 'up' check (status in ('up', 'down')),
    last_seen timestamptz,
    credential text not null,
    generation bigint not null default nextval('placement_generation')
);

create table projects (
    project_id text primary key check (project_id ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    owner text not null check (owner <> ''),
    name text not null default '',
    host_id text constraint host_exists references project_hosts,
    allowed_ports text[],
    visibility text not null default 'private' check (visibility in ('private', 'shared')),
    generation bigint not null default nextval('placement_generation')
);
create index projects_host on projects (host_id);

create table project_members (
    project_id text not null references projects on delete cascade,
    username text not null check (username <> ''),
    role text not null check (role in ('owner', 'member', 'viewer')),
    primary key (project_id, username)
);

-- xid: a reader finds by it what has become visible since its last snapshot. Numbers of a sequence would not do: they are
-- assigned in another order than transactions end, and a late commit would be missed.
create table placement_changes (
    id bigint generated always as identity primary key,
    project_id text not null,
    xid xid8 not null default pg_current_xact_id(),
    at timestamptz not null default clock_timestamp()
);
create index placement_changes_xid on placement_changes (xid);
create index placement_changes_at on placement_changes (at);
"""

_GENERATIONS = """
create function placement_new_generation() returns trigger language plpgsql as $$
begin
    new.generation := nextval('placement_generation');
    return new;
end $$;

create trigger projects_generation before update on projects
    for each row when (old.host_id is distinct from new.host_id) execute function placement_new_generation();
create trigger hosts_generation before update on project_hosts
    for each row when ((old.internal_url, old.credential) is distinct from (new.internal_url, new.credential))
    execute function placement_new_generation();
"""

_CHANGES = """
create function placement_write_new() returns trigger language plpgsql as $$
begin
    insert into placement_changes (project_id) select distinct project_id from new_rows;
    return null;
end $$;
create function placement_write_old() returns trigger language plpgsql as $$
begin
    insert into placement_changes (project_id) select distinct project_id from old_rows;
    return null;
end $$;
create function placement_write_both() returns trigger language plpgsql as $$
begin
    insert into placement_changes (project_id) select project_id from new_rows union select project_id from old_rows;
    return null;
end $$;

create trigger projects_insert after insert on projects
    referencing new table as new_rows for each statement execute function placement_write_new();
create trigger projects_update after update on projects
    referencing old table as old_rows new table as new_rows for each statement execute function placement_write_both();
create trigger projects_delete after delete on projects
    referencing old table as old_rows for each statement execute function placement_write_old();
create trigger members_insert after insert on project_members
    referencing new table as new_rows for each statement execute function placement_write_new();
create trigger members_update after update on project_members
    referencing old table as old_rows new table as new_rows for each statement execute function placement_write_both();
create trigger members_delete after delete on project_members
    referencing old table as old_rows for each statement execute function placement_write_old();

create function placement_notify() returns trigger language plpgsql as $$
begin
    perform pg_notify('portproxy_placement', '');
    return null;
end $$;
create trigger changes_notify after insert on placement_changes
    for each statement execute function placement_notify();
-- Not of last_seen: a heartbeat changes no placement.
create trigger hosts_notify after insert or delete or update of internal_url, status, credential on project_hosts
    for each statement execute function placement_notify();
"""

_DRAINING = """
alter table project_hosts drop constraint project_hosts_status_check;
alter table project_hosts add check (status in ('up', 'draining', 'down'));

-- A draining host keeps its projects and gets no others.
create function placement_refuse_draining() returns trigger language plpgsql as $$
begin
    -- "before insert" triggers run for "on conflict" too.
    if exists (select from project_hosts where host_id = new.host_id and status = 'draining')
        and not exists (select from projects where project_id = new.project_id and host_id = new.host_id) then
        raise exception 'the host is draining' using errcode = 'check_violation', constraint = 'host_is_draining';
    end if;
    return new;
end $$;
create trigger projects_insert_draining before insert on projects
    for each row execute function placement_refuse_draining();
create trigger projects_update_draining before update of host_id on projects
    for each row when (old.host_id is distinct from new.host_id) execute function placement_refuse_draining();
"""

_MEMBERS_PORTS = """
alter table project_members add column allowed_ports text[];
"""

# Not unique: users may give two projects the same name. A look-up takes the first by its key.
_NAMES = "create index projects_owner_name on projects (owner, name)"

_PUBLIC = """
alter table projects drop constraint projects_visibility_check;
update projects set visibility = 'public' where visibility = 'shared';
alter table projects add check (visibility in ('private', 'public'));
"""

_SYSTEM_USERS = "alter table projects add column system_user text check (system_user <> '')"

# Numbered by their position, from 1. Never change one: append.
MIGRATIONS: tuple[str, ...] = (
    _TABLES + _GENERATIONS + _CHANGES,
    _DRAINING + _MEMBERS_PORTS,
    _NAMES,
    _PUBLIC + _SYSTEM_USERS,
)

VERSIONS = "create table if not exists placement_migrations (number integer primary key, at timestamptz not null default now())"

# The projects whose changes became visible after an earlier snapshot.
CHANGES = f"""
select pg_current_snapshot()::text as snapshot, array_to_json(array(
    select distinct project_id from placement_changes
    where xid >= pg_snapshot_xmin($1::text::pg_snapshot) and not pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
    limit {MAX_CHANGES + 1}
))::text as changed
"""  # noqa: S608 (a number)

SNAPSHOT = "select pg_current_snapshot()::text as snapshot"

# `silent`: seconds since the last heartbeat, by the database's clock.
HOSTS = """
select host_id, internal_url, status, credential, generation,
    extract(epoch from clock_timestamp() - last_seen)::float8 as silent
from project_hosts
"""

# The ports of projects on the host `local`.
CLAIMS = """
select split_part(ports, '-', 1)::int as first, coalesce(nullif(split_part(ports, '-', 2), ''), ports)::int as last
from projects, unnest(allowed_ports) ports where host_id = 'local' and ports ~ '^[0-9]{1,5}(-[0-9]{1,5})?$'
"""

# The database's clock, and whether heartbeats cannot be written ("frozen"). A standby gets them from its primary.
CLOCK = """
select extract(epoch from clock_timestamp())::float8 as now,
    current_setting('transaction_read_only') = 'on' and not pg_is_in_recovery() as frozen
"""

_MEMBERS = """
    (select json_object_agg(username, role) from project_members m where m.project_id = p.project_id)::text as members,
    (select json_object_agg(username, m.allowed_ports) from project_members m
        where m.project_id = p.project_id and m.allowed_ports is not null)::text as member_ports"""

_COLUMNS = f"""
p.project_id, p.owner, p.name, p.host_id, array_to_json(p.allowed_ports)::text as allowed_ports, p.visibility, p.system_user,
    p.generation,{_MEMBERS}"""

PROJECT = f"""
select {_COLUMNS},
    h.internal_url, h.status, h.credential, h.generation as host_generation,
    extract(epoch from clock_timestamp() - h.last_seen)::float8 as silent
from projects p left join project_hosts h on h.host_id = p.host_id
where p.project_id = $1
"""  # noqa: S608 (our own text)

# All projects, or with a key that one.
PROJECTS = f"""
select {_COLUMNS} from projects p where $1::text is null or p.project_id = $1 order by p.project_id
"""  # noqa: S608 (our own text)

# The projects that the user $1 owns, that are public if $2, or that have one of the members $3.
VISIBLE = f"""
select {_COLUMNS} from projects p
where p.owner = $1::text or ($2::boolean and p.visibility = 'public') or p.project_id in (
    select project_id from project_members where username = any($3::text[])
)
order by p.owner <> $1::text, p.project_id limit {MAX_VISIBLE}
"""  # noqa: S608 (our own text)

# `fetch` returns a row for each that was changed.
CHANGE = f"{store.CHANGE} returning project_id"

MOVE = f"{store.MOVE} returning project_id"

REMOVE = f"{store.REMOVE} returning project_id"

REMOVE_MEMBER = f"{store.REMOVE_MEMBER} returning username"

SET_STATUS = f"{store.SET_STATUS} returning host_id"

REMOVE_HOST = f"{store.REMOVE_HOST} returning host_id"

HEARTBEAT = "update project_hosts set last_seen = clock_timestamp() where host_id = $1 returning host_id"

# All servers have read a change after an hour. The last changes are kept in any case, for the database's clock may be set.
PRUNE = """
delete from placement_changes
where at < clock_timestamp() - interval '1 hour' and id < (select max(id) from placement_changes) - 10000
"""
