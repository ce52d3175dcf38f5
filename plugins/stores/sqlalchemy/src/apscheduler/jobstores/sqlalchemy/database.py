"""Connections: who may use them when, what becomes of them in a forked process, and errors that say what to do."""

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import Pool, StaticPool

from apscheduler.jobstores.sqlalchemy.dialects import dialect_of
from apscheduler.jobstores.sqlalchemy.drivers import (
    choose_driver,
    make_engine,
    read_url,
    show_url,
)
from apscheduler.jobstores.sqlalchemy.flavours import Flavour

T = TypeVar("T")
C = TypeVar("C")

# A transaction that was in the way of another one is tried so often in all.
ATTEMPTS = 5
# The longest pause before the second attempt; it grows with each.
RETRY_SECONDS = 0.02
# A fork waits so long at most for a transaction under way.
FORK_SECONDS = 5.0


class Database:
    """An engine, and how the store uses it.

    :param owned: whether the engine was created for this store, which may then set it up and dispose of it
    :param is_isolated: whether all connections of the engine have the isolation that is needed
    :raises ValueError: if the engine is asynchronous
    """

    def __init__(self, engine: Engine, owned: bool, is_isolated: bool = False):
        if engine.dialect.is_async:
            raise ValueError(
                f"The engine for {show_url(engine.url)} is for coroutines, but the store works in threads, also of an "
                "asyncio scheduler: give an engine made by create_engine, with a driver that is not asynchronous"
            )
        self.engine = engine
        self.owned = owned
        self.dialect = dialect_of(engine)
        self._writing = engine
        level = self.dialect.isolation_level
        if level is not None and not is_isolated:  # which takes round trips
            self._writing = engine.execution_options(isolation_level=level)
        # Whether nothing has to be told to the server before and after a query.
        self._commits_each = self.dialect.commits_each(engine)
        self._reading = engine if self._commits_each else self._writing
        # Whether the store was shut down: connections in use then, or opened later, are not kept by their pool.
        self.is_closed = False
        _databases.add(self)

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, Any]) -> "Database":
        """Return the database behind a URL."""
        made = choose_driver(read_url(url))
        dialect = dialect_of(made)
        chosen = dialect.options(made, options)
        engine = make_engine(made, chosen)
        dialect.prepare(engine)
        level = chosen.get("isolation_level")
        return cls(engine, True, is_isolated=level == dialect.isolation_level)

    @property
    def url(self) -> str:
        """Where the database is, without passwords."""
        return show_url(self.engine.url)

    @property
    def flavour(self) -> Flavour:
        """What the text of a statement depends on."""
        dialect = self.engine.dialect
        return Flavour(
            dialect.name, dialect.driver, dialect.paramstyle, self.dialect.skips_locked
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Connect to read; where statements can be transactions of their own, each is."""
        turn = _turn(self.engine.pool)
        with turn, self._reading.connect() as connection, self._in_use(connection):
            if not self._commits_each:
                yield connection
                return
            raw = connection.connection.driver_connection
            before = self.dialect.set_autocommit(raw, True)
            try:
                yield connection
            finally:
                if not connection.invalidated:
                    self.dialect.set_autocommit(raw, before)

    @contextmanager
    def write(self, table: Table | None) -> Iterator[Connection]:
        """Connect to read and write in one transaction, in which nobody else changes what it has read.

        :param table: one that is there, if any is
        """
        turn = _turn(self.engine.pool, self.dialect.has_one_writer)
        with turn, self._writing.begin() as connection:
            if self._commits_each:  # whoever read last may have been interrupted
                raw = connection.connection.driver_connection
                self.dialect.set_autocommit(raw, False)
            self.dialect.begin_write(connection, table)
            with self._in_use(connection):
                yield connection

    def transact(self, table: Table | None, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` returns in a transaction; it is called again where others were in the way."""
        return self.repeat(lambda: self.write(table), work)

    def transact_each(self, table: Table | None, work: Callable[[Connection], T]) -> T:
        """Do the same where each statement may be a transaction of its own, be it that there is only one."""
        if self._commits_each:
            return self.repeat(self.read, work)
        return self.transact(table, work)

    def repeat(
        self, begin: Callable[[], AbstractContextManager[C]], work: Callable[[C], T]
    ) -> T:
        """Do the same with a transaction that is begun in another way."""
        for attempt in range(1, ATTEMPTS):
            try:
                with begin() as connection:
                    return work(connection)
            except DBAPIError as exc:
                if not self.dialect.is_conflict(exc):
                    raise
            time.sleep(random.uniform(0, attempt * RETRY_SECONDS))
        with begin() as connection:
            return work(connection)

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
        message = f"{what} at {self.url}: {_text_of(exc)}"
        if advice:
            message += f": {advice}"
        try:
            original = self.dialect.restate(exc, message)
        except TypeError:  # a driver whose errors are made in another way
            exc.add_note(message)
            return exc
        kind = type(exc)
        return kind(
            None, None, original, connection_invalidated=exc.connection_invalidated
        )

    def is_unreachable(self, exc: BaseException) -> bool:
        """Return whether an error says that the server did not answer."""
        return isinstance(exc, PoolTimeout) or (
            isinstance(exc, DBAPIError) and self.dialect.is_unreachable(exc)
        )

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


def _text_of(exc: DBAPIError) -> str:
    """Return what the driver says, without the number that some put before it."""
    args: Any = getattr(exc.orig, "args", ())
    return str(args[1] if len(args) == 2 and args[1] else exc.orig).strip()


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


# The locks that a thread has taken in order to fork.
_held = threading.local()


def _before_fork() -> None:
    """Let transactions end: to SQLite in the child, what the parent has locked would be locked for ever."""
    with _locks_guard:
        locks = list(_locks.values())
    _held.locks = [lock for lock in locks if lock.acquire(timeout=FORK_SECONDS)]


def _after_fork_in_parent() -> None:
    for lock in _held.locks:
        lock.release()


def _after_fork_in_child() -> None:
    global _locks_guard
    _locks_guard = threading.Lock()  # the threads that hold locks are not here
    _locks.clear()
    for database in list(_databases):
        database.leave_to_parent()


_register: Callable[..., None] | None = getattr(os, "register_at_fork", None)
if _register is not None:
    _register(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
