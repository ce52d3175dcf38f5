"""What the store has to know about any database."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, inspect
from sqlalchemy.exc import DBAPIError, OperationalError


class Dialect:
    """How to talk to a database of which nothing is known."""

    # Whether a claim sees what others have claimed: several schedulers may then share the database.
    isolates_claims = False
    # Whether only one transaction at a time can write to the whole database.
    has_one_writer = False
    # The isolation level of transactions; None: as the engine has it.
    isolation_level: str | None = None
    # Whether rows can be locked so that others pass over them.
    skips_locked = False

    def options(self, url: URL, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options to create an engine with, from those that were configured."""
        return dict(options)

    def prepare(self, engine: Engine) -> None:
        """Set up an engine that was created here, before it connects."""

    def is_private(self, engine: Engine) -> bool:
        """Return whether nobody but this process can see the database."""
        return False

    def commits_each(self, engine: Engine) -> bool:
        """Return whether a connection can be told to commit each statement, and that without telling the server."""
        return False

    def set_autocommit(self, connection: Any, value: bool) -> bool:
        """Have a connection of the driver commit each statement, or begin transactions again.

        :return: whether it did the one before
        """
        raise NotImplementedError

    def exists(self, engine: Engine) -> bool:
        """Return whether the database is there, so that connecting does not create it."""
        return True

    def check(self, engine: Engine) -> None:
        """Refuse an engine that cannot work.

        :raises ValueError: saying why
        """

    def tune(self, engine: Engine) -> None:
        """Set up the database behind an engine that was created here."""

    def find_obstacle(self, connection: Connection, jobs: Table) -> str | None:
        """Return why several schedulers cannot use these tables, None if they can.

        :param jobs: the table of jobs, which is there
        """
        return None if self.isolates_claims else "this kind of database is not known"

    def find_state_limit(self, connection: Connection, jobs: Table) -> int | None:
        """Return how many bytes the state of a job may have at most; None if there is no limit to speak of."""
        return None

    def begin_write(self, connection: Connection, table: Table | None) -> None:
        """Make sure that what is read from here on is still true when the transaction writes.

        :param table: one that is there, if any is
        """

    def creating(self, connection: Connection) -> AbstractContextManager[object]:
        """Keep others from creating tables at the same time."""
        return nullcontext()

    def is_complete(self, connection: Connection, table: Table) -> bool:
        """Return whether a table is there and ready for use."""
        return inspect(connection).has_table(table.name, table.schema)

    def create(self, connection: Connection, table: Table) -> None:
        """Create a table, or what it lacks."""
        table.create(connection, checkfirst=True)

    def read_clock(self, connection: Connection) -> datetime | None:
        """Return the time on the clock of the server, None if there is no server."""
        return None

    def is_denied(self, exc: DBAPIError) -> bool:
        """Return whether creating tables failed because this user may not."""
        return False

    def is_conflict(self, exc: DBAPIError) -> bool:
        """Return whether a transaction was in the way of another one, and the same one may succeed now."""
        return False

    def is_unreachable(self, exc: DBAPIError) -> bool:
        """Return whether an error says that the server did not answer."""
        return isinstance(exc, OperationalError) and exc.connection_invalidated

    def explain(self, exc: DBAPIError) -> str | None:
        """Return what an error means and what to do about it, None if it speaks for itself."""
        return None

    def restate(self, exc: DBAPIError, message: str) -> Any:
        """Return an error of the driver like the original one with another message.

        :raises TypeError: if the driver makes its errors in another way
        """
        make: Any = type(exc.orig)
        return make(message)
