"""PostgreSQL: rows are locked while a claim looks at them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from apscheduler.jobstores.sqlalchemy.dialects.servers import (
    IDLE_SECONDS,
    ServerDialect,
)

# SKIP LOCKED is understood from this version on.
OLDEST = (9, 5)
# After so many times psycopg has a statement prepared, unless it is told otherwise.
PREPARED_AFTER = 5
# Held while tables are created; the number has no meaning.
CREATING = 0x61707363

SERIALIZATION_FAILURE, DEADLOCK = "40001", "40P01"
INSUFFICIENT_PRIVILEGE, READ_ONLY = "42501", "25006"
# It shuts down, has crashed, starts, or has no connection to spare.
NOT_NOW = frozenset(("57P01", "57P02", "57P03", "57P05", "53300", "25P03"))

# What errors mean whose text is all that the driver tells, in a server that speaks English.
ADVICE = {
    "password authentication failed": "check user and password in the URL",
    "no password supplied": "put the password into the URL",
    "does not exist": "check the name of the database and the user in the URL, or create them",
    "no pg_hba.conf entry": "the server does not accept this user from here; ask who runs it to change pg_hba.conf",
    "Connection refused": "check that the server is running, and host and port in the URL",
    "could not translate host name": "check the host in the URL",
    "failed to resolve host": "check the host in the URL",
    "timeout expired": "check that the host in the URL can be reached from here",
    "server does not support SSL": "give sslmode=prefer, or let the server use TLS",
}
# A server that answers in this way will answer so again.
REFUSALS = ("FATAL", "does not support SSL", "certificate", "invalid ")
# Of those answers, the ones that pass: the system is starting up, not yet accepting connections, in recovery mode, …
PASSING = ("the database system is ", "too many", "slots are")


class PostgreSQLDialect(ServerDialect):
    """The isolation is that of single statements: each sees what others have committed before."""

    isolates_claims = True
    timed_drivers = frozenset(("psycopg", "psycopg2"))
    watched_driver = "psycopg"

    def prepare(self, engine: Engine) -> None:
        super().prepare(engine)
        if engine.dialect.driver == "psycopg":
            event.listen(engine, "connect", _plan_each_time)

        @event.listens_for(engine, "connect")
        def limit_idle_transactions(connection: Any, record: object) -> None:
            with connection.cursor() as cursor:
                cursor.execute(
                    f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'"
                )
            connection.commit()

    def commits_each(self, engine: Engine) -> bool:
        return engine.dialect.driver == "psycopg"

    def set_autocommit(self, connection: Any, value: bool) -> bool:
        before = bool(connection.autocommit)
        connection.autocommit = value
        return before

    def find_obstacle(self, connection: Connection, jobs: Table) -> str | None:
        version = connection.dialect.server_version_info or OLDEST
        self.skips_locked = version >= OLDEST
        return None if self.skips_locked else "it takes PostgreSQL 9.5 or newer"

    @contextmanager
    def creating(self, connection: Connection) -> Iterator[None]:
        # Until the end of the transaction. "IF NOT EXISTS" alone fails when two do it at the same moment.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({CREATING})")
        yield

    def read_clock(self, connection: Connection) -> datetime | None:
        now = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        assert isinstance(now, datetime)
        return now.astimezone(UTC)

    def is_denied(self, exc: DBAPIError) -> bool:
        return _state_of(exc) in (INSUFFICIENT_PRIVILEGE, READ_ONLY)

    def is_conflict(self, exc: DBAPIError) -> bool:
        return _state_of(exc) in (SERIALIZATION_FAILURE, DEADLOCK)

    def is_unreachable(self, exc: DBAPIError) -> bool:
        state = _state_of(exc)
        if state:
            return state.startswith("08") or state in NOT_NOW
        if exc.connection_invalidated:
            return True
        if not isinstance(exc, (OperationalError, InterfaceError)):
            return False
        text = str(exc.orig)
        is_refusal = any(refusal in text for refusal in REFUSALS)
        return not is_refusal or any(passing in text for passing in PASSING)

    def explain(self, exc: DBAPIError) -> str | None:
        if self.is_denied(exc):
            return "let this user create tables there, or create them for it"
        text = str(exc.orig)
        return next((ADVICE[part] for part in ADVICE if part in text), None)


def _plan_each_time(connection: Any, record: object) -> None:
    """Have no statements prepared: their plans would be those for the tables as they were, which begin empty."""
    if connection.prepare_threshold == PREPARED_AFTER:
        connection.prepare_threshold = None


def _state_of(exc: DBAPIError) -> str:
    """Return the code of an error, empty if it has none: psycopg and psycopg2 call it by different names."""
    orig: Any = exc.orig
    state = getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None)
    if state is None and orig is not None and orig.args:
        details = orig.args[0]  # pg8000
        state = details.get("C") if isinstance(details, Mapping) else None
    return state or ""
