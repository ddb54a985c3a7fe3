"""The tables of placements in a SQLite file, as numbered migrations, and the statements on them.

The same names and meanings as in `postgres_schema`. Differences:
- Writers are serialized, so the number of a change is a snapshot.
- Lists of ports are JSON.
- `port_claims` has the ports of each project on this machine, kept by triggers: no two projects may claim one port.
- No statement has `returning`, which SQLite has since 3.35 only: the number of changed rows is what counts.
"""

from __future__ import annotations

from . import store
from .store import HOST_IS_DRAINING, MAX_CHANGES, MAX_VISIBLE, PORT_IS_CLAIMED

_NOW = "(julianday('now') - 2440587.5) * 86400.0"  # seconds since 1970
_IS_LIST = "case when json_valid({0}) then json_type({0}) = 'array' else {0} is null end"

_TABLES = f"""
create table placement_generation (value integer not null);
insert into placement_generation values (0);

create table project_hosts (
    host_id text primary key not null check (length(host_id) between 1 and 64),
    internal_url text not null,
    status text not null default 'up' check (status in ('up', 'draining', 'down')),
    last_seen real,
    credential text not null,
    generation integer not null default 0
);

create table projects (
    project_id text primary key not null
        check (length(project_id) between 1 and 64 and project_id not glob '*[^a-z0-9_-]*' and project_id glob '[a-z0-9]*'),
    owner text not null check (owner <> ''),
    name text not null default '',
    host_id text references project_hosts,
    allowed_ports text check ({_IS_LIST.format("allowed_ports")}),
    visibility text not null default 'private' check (visibility in ('private', 'public')),
    system_user text check (system_user <> ''),
    generation integer not null default 0
);
create index projects_host on projects (host_id);
create index projects_owner_name on projects (owner, name);

create table project_members (
    project_id text not null references projects,
    username text not null check (username <> ''),
    role text not null check (role in ('owner', 'member', 'viewer')),
    allowed_ports text check ({_IS_LIST.format("allowed_ports")}),
    primary key (project_id, username)
) without rowid;

create table placement_changes (
    id integer primary key autoincrement,
    project_id text not null,
    at real not null default ({_NOW})
);

create table port_claims (
    first integer not null,
    last integer not null,
    project_id text not null,
    primary key (first, last, project_id)
) without rowid;
create index port_claims_project on port_claims (project_id);

insert into project_hosts (host_id, internal_url, credential) values ('local', '', '');
"""  # noqa: S608 (our own text)


def _generation_trigger(name: str, table: str, key: str, event: str, condition: str = "") -> str:
    return f"""
create trigger {name} after {event} on {table} {condition} begin
    update placement_generation set value = value + 1;
    update {table} set generation = (select value from placement_generation) where {key} = new.{key};
end;
"""  # noqa: S608 (our own text)


_GENERATIONS = (
    _generation_trigger("projects_generation", "projects", "project_id", "insert")
    + _generation_trigger("projects_move", "projects", "project_id", "update of host_id", "when old.host_id is not new.host_id")
    + _generation_trigger("hosts_generation", "project_hosts", "host_id", "insert")
    + _generation_trigger(
        "hosts_move",
        "project_hosts",
        "host_id",
        "update of internal_url, credential",
        "when old.internal_url <> new.internal_url or old.credential <> new.credential",
    )
)


def _change_triggers(table: str, columns: str) -> str:
    insert = "insert into placement_changes (project_id) values"
    return f"""
create trigger {table}_insert after insert on {table} begin
    {insert} (new.project_id);
end;
create trigger {table}_update after update of {columns} on {table} begin
    {insert} (new.project_id);
end;
create trigger {table}_rename after update of project_id on {table} when old.project_id <> new.project_id begin
    {insert} (old.project_id);
end;
create trigger {table}_delete after delete on {table} begin
    {insert} (old.project_id);
end;
"""


# Members are deleted by a trigger: a foreign key's action needs a pragma, which a program may not set.
_DELETION = """
create trigger projects_delete_members after delete on projects begin
    delete from project_members where project_id = old.project_id;
end;
"""
_CHANGES = (
    _change_triggers("projects", "project_id, owner, name, host_id, allowed_ports, visibility, system_user")
    + _change_triggers("project_members", "project_id, username, role, allowed_ports")
    + _DELETION
)

_IS_DRAINING = f"""
    select raise(abort, '{HOST_IS_DRAINING}')
    where exists (select 1 from project_hosts where host_id = new.host_id and status = 'draining')
        and not exists (select 1 from projects where project_id = new.project_id and host_id = new.host_id);
"""  # noqa: S608 (our own text)
_DRAINING = f"""
create trigger projects_insert_draining before insert on projects begin {_IS_DRAINING} end;
create trigger projects_update_draining before update of host_id on projects when old.host_id is not new.host_id
begin {_IS_DRAINING} end;
"""

# '6000-6010' -> 6000, 6010. SQLite's cast reads the digits at the beginning.
_FIRST, _LAST = "cast(value as integer)", "cast(substr(value, instr(value, '-') + 1) as integer)"
_CLAIM = f"""
    select raise(abort, '{PORT_IS_CLAIMED}')
    where exists (
        select 1 from json_each(new.allowed_ports) join port_claims
        where first <= {_LAST} and last >= {_FIRST} and project_id <> new.project_id
    );
    insert or ignore into port_claims select {_FIRST}, {_LAST}, new.project_id from json_each(new.allowed_ports);
"""  # noqa: S608 (our own text)
_HAS_CLAIMS = "new.host_id is 'local' and new.allowed_ports is not null"
_CLAIMS = f"""
create trigger projects_insert_claims after insert on projects when {_HAS_CLAIMS} begin {_CLAIM} end;
create trigger projects_update_unclaim after update of project_id, host_id, allowed_ports on projects
when not ({_HAS_CLAIMS}) or old.project_id <> new.project_id begin
    delete from port_claims where project_id = old.project_id;
end;
create trigger projects_update_claims after update of project_id, host_id, allowed_ports on projects when {_HAS_CLAIMS} begin
    delete from port_claims where project_id = old.project_id;
    {_CLAIM}
end;
create trigger projects_delete_claims after delete on projects begin
    delete from port_claims where project_id = old.project_id;
end;
"""  # noqa: S608 (our own text)

# Numbered by their position, from 1. Never change one: append.
MIGRATIONS: tuple[str, ...] = (_TABLES + _GENERATIONS + _CHANGES + _DRAINING + _CLAIMS,)

VERSIONS = f"create table if not exists placement_migrations (number integer primary key, at real not null default ({_NOW}))"

SNAPSHOT = "select cast(coalesce(max(seq), 0) as text) as snapshot from sqlite_sequence where name = 'placement_changes'"

CHANGES = f"""
select ({SNAPSHOT}) as snapshot, (
    select json_group_array(project_id) from (
        select distinct project_id from placement_changes where id > cast($1 as integer) limit {MAX_CHANGES + 1}
    )
) as changed
"""  # noqa: S608 (our own text)

HOSTS = f"select host_id, internal_url, status, credential, generation, {_NOW} - last_seen as silent from project_hosts"  # noqa: S608

CLOCK = f"select {_NOW} as now, 0 as frozen"

CLAIMS = "select first, last from port_claims"

_MEMBERS = """
    (select json_group_object(username, role) from project_members m where m.project_id = p.project_id) as members,
    (select json_group_object(username, json(m.allowed_ports)) from project_members m
        where m.project_id = p.project_id and m.allowed_ports is not null) as member_ports"""

_COLUMNS = f"""
p.project_id, p.owner, p.name, p.host_id, p.allowed_ports, p.visibility, p.system_user, p.generation,{_MEMBERS}"""

PROJECT = f"""
select {_COLUMNS}, h.internal_url, h.status, h.credential, h.generation as host_generation, {_NOW} - h.last_seen as silent
from projects p left join project_hosts h on h.host_id = p.host_id
where p.project_id = $1
"""  # noqa: S608 (our own text)

PROJECTS = f"""
select {_COLUMNS} from projects p where $1 is null or p.project_id = $1 order by p.project_id
"""  # noqa: S608 (our own text)

VISIBLE = f"""
select {_COLUMNS} from projects p
where p.owner = $1 or ($2 and p.visibility = 'public') or p.project_id in (
    select project_id from project_members where username in (select value from json_each($3))
)
order by p.owner <> $1, p.project_id limit {MAX_VISIBLE}
"""  # noqa: S608 (our own text)

CHANGE, MOVE, REMOVE, REMOVE_MEMBER = store.CHANGE, store.MOVE, store.REMOVE, store.REMOVE_MEMBER

SET_STATUS, REMOVE_HOST = store.SET_STATUS, store.REMOVE_HOST

HEARTBEAT = f"update project_hosts set last_seen = {_NOW} where host_id = $1"  # noqa: S608 (our own text)

PRUNE = f"""
delete from placement_changes where at < {_NOW} - 3600 and id < (select max(id) from placement_changes) - 10000
"""  # noqa: S608 (our own text)
