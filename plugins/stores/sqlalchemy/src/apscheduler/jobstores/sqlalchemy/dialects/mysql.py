"""MySQL and MariaDB: rows are locked while a claim looks at them, if an index leads to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, event, inspect, text
from sqlalchemy.exc import DBAPIError

from apscheduler.jobstores.sqlalchemy.dialects.servers import (
    IDLE_SECONDS,
    ServerDialect,
)

# SKIP LOCKED is understood from these versions on.
OLDEST_MARIADB, OLDEST_MYSQL = (10, 6), (8, 0, 1)
# The name of the lock that is held while tables are created.
CREATING = "apscheduler_create_tables"

LOCK_TIMEOUT, DEADLOCK = 1205, 1213
DENIED = frozenset((1044, 1142, 1143, 1227, 1290, 1792, 1836))
# It cannot be reached, has gone away, shuts down, or has no connection to spare.
NOT_NOW = frozenset(
    (
        *(1040, 1053, 1077, 1079, 1158, 1159, 1160, 1161, 1203, 1927, 4031),
        *(2002, 2003, 2006, 2012, 2013, 2055),
    )
)
ADVICE = {
    1040: "the server has no connection to spare; let it have more, or use fewer",
    1044: "let this user use the database, or name another one in the URL",
    1045: "check user and password in the URL",
    1049: "check the name of the database in the URL, or create it",
    1142: "let this user create tables there, or create them for it",
    1665: "the binary log of the server has to be in the format MIXED or ROW",
    1698: "the server lets this user in without a password only locally; use another one",
    2002: "check that the server is running, and host and port in the URL",
    2003: "check that the server is running, and host and port in the URL",
    2005: "check the host in the URL",
}


class MySQLDialect(ServerDialect):
    """Both speak the same language, but for the versions that can do something."""

    isolates_claims = True
    timed_drivers = frozenset(("pymysql", "mysqldb"))
    watched_driver = "pymysql"

    def prepare(self, engine: Engine) -> None:
        super().prepare(engine)
        if engine.dialect.driver == "pymysql":
            event.listen(engine, "do_connect", _connect)

        @event.listens_for(engine, "connect")
        def limit_idle_transactions(connection: Any, record: object) -> None:
            with connection.cursor() as cursor:
                # Only MariaDB has this variable, and reads this kind of comment.
                cursor.execute(
                    f"SET @apscheduler = 1 /*M! , SESSION idle_transaction_timeout = {IDLE_SECONDS} */"
                )
            connection.commit()

    def commits_each(self, engine: Engine) -> bool:
        return event.contains(engine, "do_connect", _connect)

    def set_autocommit(self, connection: Any, value: bool) -> bool:
        before = bool(connection.get_autocommit())
        connection.autocommit(value)
        return before

    def find_obstacle(self, connection: Connection, jobs: Table) -> str | None:
        dialect: Any = connection.dialect
        oldest = OLDEST_MARIADB if dialect.is_mariadb else OLDEST_MYSQL
        if dialect.server_version_info < oldest:
            return "it takes MariaDB 10.6, MySQL 8.0.1 or newer"
        if not self.is_complete(connection, jobs):
            (index,) = jobs.indexes
            return f"table {jobs.name} has no index {index.name!r} on next_run_time"
        engine = _describe(connection, jobs, "engine", "tables")
        if engine != "InnoDB":
            return f"table {jobs.name} is kept by {engine}, which has no transactions; ALTER TABLE it to InnoDB"
        self.skips_locked = True
        return None

    def find_state_limit(self, connection: Connection, jobs: Table) -> int | None:
        limit: int | None = _describe(
            connection,
            jobs,
            "character_maximum_length",
            "columns",
            " AND column_name = 'job_state'",
        )
        return limit

    @contextmanager
    def creating(self, connection: Connection) -> Iterator[None]:
        # What creates tables ends transactions here, so they cannot hold the lock.
        connection.exec_driver_sql(f"SELECT GET_LOCK('{CREATING}', 60)").all()
        try:
            yield
        finally:
            connection.exec_driver_sql(f"SELECT RELEASE_LOCK('{CREATING}')").all()

    def is_complete(self, connection: Connection, table: Table) -> bool:
        # Indexes come after their table, and somebody may be about to create them, or have died before.
        return super().is_complete(connection, table) and not (
            _lacking(connection, table)
        )

    def create(self, connection: Connection, table: Table) -> None:
        super().create(connection, table)
        for index in table.indexes:
            if index.name in _lacking(connection, table):
                index.create(connection)

    def read_clock(self, connection: Connection) -> datetime | None:
        now = connection.exec_driver_sql("SELECT UTC_TIMESTAMP(6)").scalar_one()
        assert isinstance(now, datetime)
        return now.replace(tzinfo=UTC)

    def is_denied(self, exc: DBAPIError) -> bool:
        return _code_of(exc) in DENIED

    def is_conflict(self, exc: DBAPIError) -> bool:
        return _code_of(exc) in (LOCK_TIMEOUT, DEADLOCK)

    def is_unreachable(self, exc: DBAPIError) -> bool:
        return exc.connection_invalidated or _code_of(exc) in NOT_NOW

    def explain(self, exc: DBAPIError) -> str | None:
        return ADVICE.get(_code_of(exc))

    def restate(self, exc: DBAPIError, message: str) -> Any:
        make: Any = type(exc.orig)
        return make(_code_of(exc), message)


def _connect(dialect: object, record: object, args: Any, options: Any) -> Any:
    # Only there is the driver needed.
    from apscheduler.jobstores.sqlalchemy.dialects.pymysql import BeginningConnection

    return BeginningConnection(*args, **options)


def _code_of(exc: DBAPIError) -> int:
    """Return the number of an error, 0 if it has none."""
    args = getattr(exc.orig, "args", ())
    code = args[0] if args else 0
    return code if isinstance(code, int) else 0


def _lacking(connection: Connection, table: Table) -> set[str | None]:
    """Return the names of the indexes that a table should have and has not."""
    wanted: set[str | None] = {str(index.name) for index in table.indexes}
    found = inspect(connection).get_indexes(table.name, table.schema)
    return wanted.difference(index["name"] for index in found)


def _describe(
    connection: Connection, table: Table, what: str, where: str, condition: str = ""
) -> Any:
    """Return what the information schema says of a table."""
    query = text(
        f"SELECT {what} FROM information_schema.{where} WHERE table_name = :name "
        f"AND table_schema = COALESCE(:schema, DATABASE()){condition}"
    )
    values = {"name": table.name, "schema": table.schema}
    return connection.execute(query, values).scalar()
