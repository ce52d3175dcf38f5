"""SQLite: one writer at a time, in a file or in memory."""

import random
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, delete, false
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from apscheduler.jobstores.sqlalchemy.dialects.base import Dialect

# The longest wait between two attempts to get the write lock. SQLite's own waiting grows to 100 ms a time, and
# whoever works without a pause then keeps everybody else out.
LOCK_RETRY_SECONDS = 0.004
# How long to wait for a lock held by others, unless the engine says something else.
LOCK_TIMEOUT_SECONDS = 10

ADVICE = {
    "SQLITE_AUTH": "this connection may not do that; use one that may",
    "SQLITE_BUSY": "another process has locked it for too long; end that process, or give a longer timeout in "
    "engine_options={'connect_args': {'timeout': SECONDS}}",
    "SQLITE_LOCKED": "another connection of this process has locked it",
    "SQLITE_CANTOPEN": "the file cannot be opened; check that its directory exists and that this user may write there",
    "SQLITE_CORRUPT": "the file is damaged; restore it from a backup",
    "SQLITE_FULL": "there is no room left for it; free disk space, or raise the limit of the database",
    "SQLITE_IOERR": "reading or writing the file failed; check the disk and that file locks work on it",
    "SQLITE_NOTADB": "the file is not an SQLite database; give another path, or move that file away",
    "SQLITE_READONLY": "it is read-only; let this user write to the file and to its directory",
    "SQLITE_PERM": "access is denied; let this user read and write the file",
}


DENIED = frozenset(("SQLITE_AUTH", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN"))


class SQLiteDialect(Dialect):
    """SQLite locks the whole database for a writer: claims wait for each other, and see everything."""

    isolates_claims = True
    has_one_writer = True

    def options(self, url: URL, options: Mapping[str, Any]) -> dict[str, Any]:
        result = dict(options)
        connect_args = dict(result.get("connect_args", {}))
        connect_args.setdefault("timeout", LOCK_TIMEOUT_SECONDS)
        if _is_in_memory(url) and not {"pool", "poolclass"} & result.keys():
            # One connection for all threads: each connection would have a database of its own.
            result["poolclass"] = StaticPool
            connect_args.setdefault("check_same_thread", False)
        result["connect_args"] = connect_args
        return result

    def is_private(self, engine: Engine) -> bool:
        return _is_in_memory(engine.url)

    def exists(self, engine: Engine) -> bool:
        name = engine.url.database or ""
        is_path = not self.is_private(engine) and not name.startswith("file:")
        return Path(name).exists() if is_path else True

    def check(self, engine: Engine) -> None:
        if _is_in_memory(engine.url) and isinstance(engine.pool, SingletonThreadPool):
            raise ValueError(
                f"The engine for {engine.url} gives each thread a database of its own, but a scheduler uses several "
                "threads: create it with poolclass=StaticPool and connect_args={'check_same_thread': False}, or give "
                "the url instead of an engine"
            )

    def tune(self, engine: Engine) -> None:
        """Have readers and the writer not wait for each other, where the file allows it."""
        if self.is_private(engine):
            return
        # A file that is locked or read-only stays as it is. Anything worse comes up again at the next statement.
        with suppress(OperationalError), engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")

    def begin_write(self, connection: Connection, table: Table | None) -> None:
        """Take the write lock before reading; all processes that wait have the same chance to get it."""
        raw: Any = connection.connection.driver_connection
        if raw.in_transaction:  # begun by the engine, and not yet for writing
            if table is not None:
                connection.execute(delete(table).where(false()))
            return
        timeout = raw.execute("PRAGMA busy_timeout").fetchone()[0]
        deadline = time.monotonic() + timeout / 1000
        raw.execute("PRAGMA busy_timeout=0")
        try:
            while True:
                try:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                    return
                except OperationalError as exc:
                    if _name_of(exc) != "SQLITE_BUSY" or time.monotonic() > deadline:
                        raise
                time.sleep(random.uniform(0.0005, LOCK_RETRY_SECONDS))
        finally:
            raw.execute(f"PRAGMA busy_timeout={timeout}")

    def is_denied(self, exc: DBAPIError) -> bool:
        # What can be read but not opened is in a directory where SQLite may not create its journal.
        return _name_of(exc) in DENIED

    def explain(self, exc: DBAPIError) -> str | None:
        return ADVICE.get(_name_of(exc))


def _is_in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:") or url.query.get("mode") == "memory"


def _name_of(exc: DBAPIError) -> str:
    """Return the name of SQLite's error without its details, such as SQLITE_IOERR for SQLITE_IOERR_WRITE."""
    name = getattr(exc.orig, "sqlite_errorname", "")
    return "_".join(name.split("_")[:2])
