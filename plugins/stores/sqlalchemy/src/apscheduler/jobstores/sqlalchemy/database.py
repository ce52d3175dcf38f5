"""Connections: who may use them when, what becomes of them in a forked process, and errors that say what to do."""

import os
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import Pool, StaticPool

from apscheduler.jobstores.sqlalchemy.dialects import dialect_of


class Database:
    """An engine, and how the store uses it.

    :param owned: whether the engine was created for this store, which may then set it up and dispose of it
    """

    def __init__(self, engine: Engine, owned: bool):
        self.engine = engine
        self.owned = owned
        self.dialect = dialect_of(engine)
        # Whether the store was shut down: connections in use then, or opened later, are not kept by their pool.
        self.is_closed = False
        _databases.add(self)

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, Any]) -> "Database":
        """Return the database behind a URL."""
        made = make_url(url)
        return cls(create_engine(made, **dialect_of(made).options(made, options)), True)

    @property
    def url(self) -> str:
        """Where the database is, without the password."""
        return self.engine.url.render_as_string(hide_password=True)

    @property
    def flavour(self) -> Hashable:
        """What the text of a statement depends on."""
        dialect = self.engine.dialect
        return dialect.name, dialect.driver, dialect.paramstyle

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Connect to read."""
        turn = _turn(self.engine.pool)
        with turn, self.engine.connect() as connection, self._in_use(connection):
            yield connection

    @contextmanager
    def write(self, table: Table | None) -> Iterator[Connection]:
        """Connect to read and write in one transaction, in which nobody else changes what it has read.

        :param table: one that is there, if any is
        """
        turn = _turn(self.engine.pool, self.dialect.has_one_writer)
        with turn, self.engine.begin() as connection:
            self.dialect.begin_write(connection, table)
            with self._in_use(connection):
                yield connection

    @contextmanager
    def _in_use(self, connection: Connection) -> Iterator[None]:
        """Have a connection closed after use if the store was shut down meanwhile, or before."""
        try:
            yield
        finally:
            if self.is_closed:
                connection.detach()

    def explain(self, exc: DBAPIError, what: str) -> DBAPIError:
        """Return an error of the same type that says what failed, where, why, and what to do."""
        advice = self.dialect.explain(exc)
        message = f"{what} at {self.url}: {exc.orig}"
        if advice:
            message += f": {advice}"
        make_original: Any = type(exc.orig)
        try:
            return type(exc)(None, None, make_original(message))
        except TypeError:  # a driver whose errors are made in another way
            exc.add_note(message)
            return exc

    def close(self) -> None:
        """Close the connections, unless they belong to somebody else."""
        if self.owned:
            self.is_closed = not isinstance(self.engine.pool, StaticPool)
            self.engine.dispose()

    def leave_to_parent(self) -> None:
        """In a forked process: use connections of its own from now on.

        The inherited ones must not even be closed, since closing speaks to the server or releases locks.
        """
        if not self.dialect.is_private(self.engine):
            _inherited.append(self.engine.pool)
            self.engine.dispose(close=False)


# A connection that all threads share is used by one of them at a time, whichever store or engine it belongs to. And
# where there is one writer at a time, threads of one process wait for each other here, which takes less than polling.
_locks: "weakref.WeakKeyDictionary[Pool, Any]" = weakref.WeakKeyDictionary()
_locks_guard = threading.Lock()
_databases: "weakref.WeakSet[Database]" = weakref.WeakSet()
_inherited: list[Pool] = []


@contextmanager
def _turn(pool: Pool, one_at_a_time: bool = False) -> Iterator[None]:
    if not one_at_a_time and not isinstance(pool, StaticPool):
        yield
        return
    with _locks_guard:
        lock = _locks.setdefault(pool, threading.RLock())
    with lock:
        yield


def _after_fork() -> None:
    global _locks_guard
    _locks_guard = threading.Lock()  # the threads that hold locks are not here
    _locks.clear()
    for database in list(_databases):
        database.leave_to_parent()


_register: Callable[..., None] | None = getattr(os, "register_at_fork", None)
if _register is not None:
    _register(after_in_child=_after_fork)
