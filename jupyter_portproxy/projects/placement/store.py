"""The interface of the databases that hold placements, and the choice between them by the DSN.

A store executes the statements here and those of its schema module. The two modules have the same names, and their rows the same
columns and types: `allowed_ports`, `members`, `member_ports` and `changed` are JSON as text. Arguments are `$1`, `$2` and so on;
a list of ports is a list of texts, or None.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ...errors import BadInput

NO_TABLES = "The database has no tables of placements yet.\nMake them: jupyter portproxy placement init"
OLD_TABLES = "The tables of placements are of an earlier version.\nRun: jupyter portproxy placement init"
INVALID_TEXT = "The database cannot store this text."
INVALID_DSN = (
    "The DSN is not the address of a database.\n"
    "For example: postgresql://user@host:5432/database or sqlite:////srv/portproxy/projects.sqlite"
)
HOST_IS_DRAINING, PORT_IS_CLAIMED = "host_is_draining", "port_is_claimed"  # names of constraints
MAX_VISIBLE = 1000  # projects in the list of one user
MAX_CHANGES = 1000  # with more changed projects at once, all count as changed
Row = Mapping[str, Any]

# ---- statements that are the same in both databases ----

VERSION = "insert into placement_migrations (number) values ({number})"

NAMED = "select project_id from projects where owner = $1 and name = $2 order by project_id limit 1"

PLACE = """
insert into projects (project_id, owner, name, host_id, allowed_ports, visibility, system_user)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (project_id) do update set owner = excluded.owner, name = excluded.name, host_id = excluded.host_id,
    allowed_ports = excluded.allowed_ports, visibility = excluded.visibility, system_user = excluded.system_user
"""

# Null leaves a column unchanged; for allowed_ports, where null means no restriction, $5 does. '' removes the system user.
CHANGE = """
update projects set owner = coalesce($2, owner), name = coalesce($3, name), host_id = coalesce($4, host_id),
    allowed_ports = case when $5 then allowed_ports else $6 end, visibility = coalesce($7, visibility),
    system_user = nullif(coalesce($8, system_user), '')
where project_id = $1
"""

MOVE = "update projects set host_id = $2 where project_id = $1"

REMOVE = "delete from projects where project_id = $1"

ADD_MEMBER = """
insert into project_members (project_id, username, role, allowed_ports) values ($1, $2, $3, $5)
on conflict (project_id, username) do update set role = excluded.role,
    allowed_ports = case when $4 then project_members.allowed_ports else excluded.allowed_ports end
"""

REMOVE_MEMBER = "delete from project_members where project_id = $1 and username = $2"

SET_HOST = """
insert into project_hosts (host_id, internal_url, credential, status) values ($1, $2, $3, coalesce($4, 'up'))
on conflict (host_id) do update set internal_url = excluded.internal_url, credential = excluded.credential,
    status = coalesce($4, project_hosts.status)
"""

SET_STATUS = "update project_hosts set status = $2 where host_id = $1"

REMOVE_HOST = "delete from project_hosts where host_id = $1"


class DatabaseUnavailable(Exception):
    """A statement was not executed. The text is for the log: it may quote the DSN.

    Attributes:
        reason: for the administrator, in words of our own.
        is_lost: the connection broke.
    """

    def __init__(self, text: str, reason: str, *, is_lost: bool) -> None:
        super().__init__(text)
        self.reason, self.is_lost = reason, is_lost


class ConstraintViolation(Exception):
    """A row breaks a constraint of its table, whose name is `constraint`."""

    def __init__(self, constraint: str) -> None:
        super().__init__(f"the constraint {constraint} is broken")
        self.constraint = constraint


class Statements(Protocol):
    """The names in a schema module; `postgres_schema` explains them."""

    MIGRATIONS: tuple[str, ...]
    SNAPSHOT: str
    CHANGES: str
    CLOCK: str
    HOSTS: str
    CLAIMS: str
    PROJECT: str
    PROJECTS: str
    VISIBLE: str
    CHANGE: str
    MOVE: str
    REMOVE: str
    REMOVE_MEMBER: str
    SET_STATUS: str
    REMOVE_HOST: str
    HEARTBEAT: str
    PRUNE: str


class StoreConnection(Protocol):
    """One connection. All methods that wait raise DatabaseUnavailable or ConstraintViolation."""

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]: ...

    async def begin(self) -> None:
        """Begin a transaction in which no other program changes rows. `cut`, or the end of the store, undoes it."""

    async def commit(self) -> None: ...

    async def follow_changes(self) -> None:
        """Begin to watch for changes by any program. A database that sends no notifications refuses: polling is enough."""

    async def wait_for_change(self, timeout: float) -> None:
        """Return soon after a change, and after `timeout` seconds in any case."""

    @property
    def is_usable(self) -> bool: ...

    def cut(self) -> None:
        """Close the connection at once."""


class Store(Protocol):
    """A database of placements."""

    @property
    def statements(self) -> Statements: ...

    async def init(self, migrations: Sequence[str]) -> int:
        """Create the tables, or migrate them. Returns the number of the schema. Raises BadInput for a newer one."""

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        """The rows of a statement. One that changes rows and returns none gives a row for each.

        Raises:
            DatabaseUnavailable, ConstraintViolation
        """

    async def connect(self) -> StoreConnection: ...

    async def close(self) -> None: ...


def open_store(
    dsn: str, *, timeout: float = 2.0, max_connections: int = 4, resend: bool = True, log: logging.Logger | None = None
) -> Store:
    """The store of a DSN: `sqlite:////absolute/path`, `sqlite:///relative/path`, or `postgresql://...`.

    Args:
        timeout: for a connection, or one statement, in seconds.
        max_connections: besides those of `connect`, to PostgreSQL.
        resend: send a statement again if the server has closed an idle connection: for statements that change nothing.

    Raises:
        MissingPackage
    """
    if is_sqlite(dsn):
        from .sqlite import SqliteStore

        return SqliteStore(dsn, timeout=timeout, log=log or logging.getLogger(__name__))
    from .postgres import PostgresPool

    return PostgresPool(dsn, timeout=timeout, max_connections=max_connections, resend=resend)


def is_sqlite(dsn: str) -> bool:
    """True for the DSN of a SQLite file."""
    return dsn.startswith("sqlite:")


def newer_tables() -> BadInput:
    """The error for tables of a newer schema."""
    return BadInput("A newer version of jupyter_portproxy has made these tables.", "Upgrade jupyter_portproxy here.")
