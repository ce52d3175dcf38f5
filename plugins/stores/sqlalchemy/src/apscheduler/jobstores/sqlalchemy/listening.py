"""Hearing of changes at once, through NOTIFY and LISTEN of PostgreSQL with psycopg."""

import hashlib
import os
import random
import selectors
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from logging import Logger
from typing import Any

from sqlalchemy import Connection, Engine, Table, Update, func

from apscheduler.jobstores.sqlalchemy.statements import Values
from apscheduler.jobstores.sqlalchemy.writing.postgresql import ArrayWriter

# PostgreSQL cuts longer names off.
MAX_NAME_BYTES = 63
# A connection that has been silent for so long is asked whether it is still there.
PING_SECONDS = 30.0
# The pause before a connection that was lost is tried again; it doubles each time.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 10.0
# Who hears only of its own changes listens again after so long: to hear of each of many takes time.
ECHO_SECONDS = 0.01
# Whoever ends a subscription waits so long for its thread, which may be connecting.
END_SECONDS = 1.0


class Channel:
    """Where the stores on one table tell each other of changes.

    :param name: what makes it theirs alone within the database: schema and name of the table of jobs
    """

    def __init__(self, name: str):
        self.name = f"apscheduler.{name}"
        if len(self.name.encode()) > MAX_NAME_BYTES:
            digest = hashlib.sha256(name.encode()).hexdigest()
            self.name = f"apscheduler.{digest}"[:MAX_NAME_BYTES]
        self._id = uuid.uuid4().hex

    @classmethod
    def of(cls, connection: Connection, jobs: Table) -> "Channel":
        """Return the channel of a table, which is there; its schema may come from the search path."""
        name = connection.dialect.identifier_preparer.format_table(jobs)
        query = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = %s::regclass"
        schema = connection.exec_driver_sql(query, (name,)).scalar_one()
        return cls(f"{schema}.{jobs.name}")

    @property
    def writer(self) -> str:
        """Who tells: this store, in this process, which may be a fork."""
        return f"{self._id}.{os.getpid()}"

    def tell(self, connection: Connection) -> None:
        """Tell the others when the transaction is committed."""
        values = (self.name, self.writer)
        connection.exec_driver_sql("SELECT pg_notify(%s, %s)", values)

    def telling(self, change: Update) -> Any:
        """Return a statement that tells the others of what it changes, which is one row or none."""
        return change.returning(func.pg_notify(self.name, self.writer))

    def write(
        self, connection: Connection, writer: ArrayWriter, rows: Sequence[Values]
    ) -> None:
        """Write rows and tell the others, by one statement."""
        sql, values = writer.render(connection, rows)
        connection.exec_driver_sql(
            f"WITH written AS ({sql}) SELECT pg_notify(%s, %s)",
            (*values, self.name, self.writer),
        )


class Listener:
    """Calls somebody when another store has told of a change, on a thread and a connection of its own."""

    def __init__(
        self,
        engine: Engine,
        channel: Channel,
        callback: Callable[[], None],
        logger: Logger,
    ):
        self._engine = engine
        self._channel = channel
        self._callback = callback
        self._logger = logger
        self._stopping = threading.Event()
        # What wakes the thread while it waits for the server.
        self._wakeup, self._woken = socket.socketpair()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen from here on: what is told after this is heard."""
        connection = self._connect()
        self._thread = threading.Thread(
            target=self._listen,
            args=(connection,),
            name="APScheduler listener",
            daemon=True,
        )
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it has not been stopped."""
        return not self._stopping.is_set()

    def stop(self) -> None:
        """Listen no more; the callback is not called after this, unless it is being called."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._wakeup.close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(END_SECONDS)

    def _connect(self) -> Any:
        """Return a connection of the driver that listens, or None if there is none to be had."""
        try:
            pooled = self._engine.raw_connection()
            connection: Any = pooled.driver_connection
            pooled.detach()  # it is not one of the pool any more
            try:
                connection.rollback()
                connection.autocommit = True
                quoted = self._channel.name.replace('"', '""')
                connection.execute(f'LISTEN "{quoted}"')
            except BaseException:
                connection.close()
                raise
        except Exception as exc:
            self._logger.debug("No connection to hear of changes: %s", exc)
            return None
        return connection

    def _listen(self, connection: Any) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while not self._stopping.is_set():
                if connection is not None:
                    pause = FIRST_PAUSE_SECONDS
                    self._hear(connection)
                    connection = None
                if self._stopping.wait(pause * random.uniform(0.5, 1.0)):
                    return
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                connection = self._connect()
                if connection is not None:
                    self._call()  # nobody knows what was told meanwhile
        finally:
            self._woken.close()

    def _hear(self, connection: Any) -> None:
        """Pass on what is heard until the connection is lost or nobody wants to know."""
        tellers: list[str] = []
        connection.add_notify_handler(lambda found: tellers.append(found.payload))
        try:
            while not self._stopping.is_set():
                if self._wait(connection):
                    tellers += _read_tellers(connection.pgconn)
                else:  # what comes just now goes to the handler
                    connection.execute("SELECT 1")
                if any(teller != self._channel.writer for teller in tellers):
                    self._call()
                elif tellers:
                    self._stopping.wait(ECHO_SECONDS)
                tellers.clear()
        except Exception as exc:
            if not self._stopping.is_set():
                self._logger.debug("The connection to hear of changes is lost: %s", exc)
        finally:
            connection.close()

    def _wait(self, connection: Any) -> bool:
        """Return whether something came from the server, or from whoever stops; otherwise nothing came for long."""
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            return bool(selector.select(PING_SECONDS))

    def _call(self) -> None:
        if self._stopping.is_set():
            return
        try:
            self._callback()
        except Exception:
            self._logger.exception("Error telling the scheduler of a change")


def _read_tellers(connection: Any) -> Iterator[str]:
    """Return who has told of a change, from what has come already: there is no need to ask the server.

    :param connection: that of libpq; ``notifies()`` of psycopg itself cannot be told not to wait in all releases
    """
    connection.consume_input()
    while notification := connection.notifies():
        yield notification.extra.decode()
