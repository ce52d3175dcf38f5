"""Where the store keeps its tables: jobs always in the database, runs beside them where that is possible."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from sqlalchemy import Connection, MetaData, inspect

from apscheduler.jobstores.sqlalchemy.claims import ClaimStatements
from apscheduler.jobstores.sqlalchemy.database import Database
from apscheduler.jobstores.sqlalchemy.nodes import NodeTable
from apscheduler.jobstores.sqlalchemy.runs import RunTable
from apscheduler.jobstores.sqlalchemy.tables import (
    jobs_table,
    nodes_table,
    runs_table,
)


@lru_cache(maxsize=32)
def _statements(
    tablename: str, schema: str | None, runs_schema: str | None, *flavours: Hashable
) -> tuple[RunTable, NodeTable, ClaimStatements]:
    """Return what all stores have in common whose tables have the same names, in databases of the same flavours."""
    metadata = MetaData()
    runs = RunTable(runs_table(tablename, metadata, runs_schema))
    nodes = NodeTable(nodes_table(tablename, metadata, runs_schema), runs)
    return runs, nodes, ClaimStatements(jobs_table(tablename, metadata, schema), runs)


class Storage:
    """The tables, the connections to them, and the statements on them."""

    def __init__(
        self, database: Database, tablename: str, metadata: MetaData, schema: str | None
    ):
        self.database = database
        self.runs_database = database
        self._tablename = tablename
        self.jobs_table = jobs_table(tablename, metadata, schema)
        self._use_runs(metadata, schema)

    def _use_runs(self, metadata: MetaData, schema: str | None) -> None:
        self.runs_table = runs_table(self._tablename, metadata, schema)
        self.nodes_table = nodes_table(self._tablename, metadata, schema)
        self.runs, self.nodes, self.claims = _statements(
            self._tablename,
            self.jobs_table.schema,
            self.runs_table.schema,
            *(self.database.flavour, self.runs_database.flavour),
        )

    @contextmanager
    def write_all(self) -> Iterator[tuple[Connection, Connection]]:
        """Connect to write to jobs and to runs, in one transaction where they are in one database."""
        if self.runs_database is self.database:
            with self.database.write(self.jobs_table) as connection:
                yield connection, connection
            return
        # The database commits first: writing to memory does not fail.
        with (
            self.runs_database.write(self.runs_table) as runs_connection,
            self.database.write(self.jobs_table) as connection,
        ):
            yield connection, runs_connection

    @contextmanager
    def read_all(self) -> Iterator[tuple[Connection, Connection]]:
        """Connect to read jobs and runs."""
        with self.database.read() as connection:
            if self.runs_database is self.database:
                yield connection, connection
                return
            with self.runs_database.read() as runs_connection:
                yield connection, runs_connection

    def create_jobs(self) -> None:
        """Create the table of jobs if it is not there."""
        table = self.jobs_table
        with self.database.read() as connection:
            if inspect(connection).has_table(table.name, table.schema):
                return
        with self.database.write(None) as connection:
            table.create(connection, checkfirst=True)

    def create_runs(self) -> None:
        """Create the tables of runs and leases if they are not there.

        :raises DBAPIError: if that is not possible
        """
        tables = (self.runs_table, self.nodes_table)
        with self.database.read() as connection:
            inspector = inspect(connection)
            if all(inspector.has_table(t.name, t.schema) for t in tables):
                return
        with self.database.write(None) as connection:
            for table in tables:
                table.create(connection, checkfirst=True)

    def keep_runs_in_memory(self) -> None:
        """Have the runs in a database that ends with the process, as if they were beside the jobs."""
        if self.runs_database is not self.database:
            return
        self.runs_database = Database.from_url("sqlite://", {})
        self._use_runs(MetaData(), None)
        with self.runs_database.write(None) as connection:
            self.runs_table.create(connection)
            self.nodes_table.create(connection)

    def close(self) -> None:
        """Close the connections that were opened here."""
        self.database.close()
        if self.runs_database is not self.database:
            self.runs_database.close()
