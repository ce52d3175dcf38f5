"""Where the store keeps its tables: jobs always in the database, runs beside them where that is possible."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

from sqlalchemy import Connection, MetaData, Table, bindparam, inspect, select

from apscheduler.jobstores.sqlalchemy.claim_statements import ClaimStatements
from apscheduler.jobstores.sqlalchemy.database import Database
from apscheduler.jobstores.sqlalchemy.flavours import Flavour
from apscheduler.jobstores.sqlalchemy.nodes import NodeTable
from apscheduler.jobstores.sqlalchemy.runs import RunTable
from apscheduler.jobstores.sqlalchemy.statements import Statement
from apscheduler.jobstores.sqlalchemy.tables import (
    JOB,
    AnyRow,
    jobs_table,
    nodes_table,
    runs_table,
)
from apscheduler.jobstores.sqlalchemy.writing import Writer, inserting

T = TypeVar("T")


@lru_cache(maxsize=32)
def _statements(
    tablename: str,
    schema: str | None,
    runs_schema: str | None,
    flavour: Flavour,
    runs_flavour: Flavour,
) -> tuple[RunTable, NodeTable, ClaimStatements]:
    """Return what all stores have in common whose tables have the same names, in databases of the same flavours."""
    metadata = MetaData()
    runs = RunTable(
        runs_table(tablename, metadata, runs_schema, runs_flavour), runs_flavour
    )
    nodes = NodeTable(nodes_table(tablename, metadata, runs_schema, runs_flavour), runs)
    jobs = jobs_table(tablename, metadata, schema, flavour)
    return runs, nodes, ClaimStatements(jobs, flavour, runs)


class Storage:
    """The tables, the connections to them, and the statements on them, which are made when it is opened."""

    runs: RunTable
    nodes: NodeTable
    claims: ClaimStatements
    # Adds rows of the table of jobs, in its order of columns.
    add_jobs: Writer
    _find: Statement

    def __init__(
        self, database: Database, tablename: str, metadata: MetaData, schema: str | None
    ):
        self.database = database
        self.runs_database = database
        layout = tablename, metadata, schema, database.flavour
        self.jobs_table = jobs_table(*layout)
        self.runs_table = runs_table(*layout)
        self.nodes_table = nodes_table(*layout)

        # How many bytes the state of a job may have at most.
        self.state_limit: int | None = None

    def exists(self) -> bool:
        """Return whether there is a table of jobs."""
        table = self.jobs_table
        if not self.database.dialect.exists(self.database.engine):
            return False
        with self.database.read() as connection:
            return inspect(connection).has_table(table.name, table.schema)

    def open(self) -> str | None:
        """Create the table of jobs if it is not there, and find out what the database can do.

        :return: why several schedulers cannot use it; None if they can
        """
        database, dialect = self.database, self.database.dialect
        self._create((self.jobs_table,))
        with database.read() as connection:
            obstacle = dialect.find_obstacle(connection, self.jobs_table)
            self.state_limit = dialect.find_state_limit(connection, self.jobs_table)
        self._make_statements()
        return obstacle

    def _make_statements(self) -> None:
        self.add_jobs = inserting(self.database.flavour, self.jobs_table, JOB)
        c = self.jobs_table.c
        found = select(c.job_state, c.next_run_time).where(c.id == bindparam("_id"))
        self._find = Statement(found, ("_id",))
        self.runs, self.nodes, self.claims = _statements(
            self.jobs_table.name,
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

    def create_runs(self) -> None:
        """Create the tables of runs and leases if they are not there.

        :raises DBAPIError: if that is not possible
        """
        self._create((self.runs_table, self.nodes_table))

    def _create(self, tables: Sequence[Table]) -> None:
        dialect = self.database.dialect
        with self.database.read() as connection:
            if all(dialect.is_complete(connection, table) for table in tables):
                return
        with (
            self.database.write(None) as connection,
            dialect.creating(connection),
        ):
            for table in tables:
                dialect.create(connection, table)

    def find_job(self, job_id: str) -> tuple[bytes, float | None] | None:
        """Return the state and the run time of a job, None if there is none."""
        with self.database.read() as connection:
            row: AnyRow = self._find.execute(connection, job_id).first()
        return None if row is None else (bytes(row[0]), row[1])

    def keep_runs_in_memory(self) -> None:
        """Have the runs in a database that ends with the process, as if they were beside the jobs."""
        if self.runs_database is not self.database:
            return
        self.runs_database = Database.from_url("sqlite://", {})
        metadata, name = MetaData(), self.jobs_table.name
        layout = name, metadata, None, self.runs_database.flavour
        self.runs_table = runs_table(*layout)
        self.nodes_table = nodes_table(*layout)
        with self.runs_database.write(None) as connection:
            metadata.create_all(connection)
        self._make_statements()

    def transact_all(self, work: Callable[[tuple[Connection, Connection]], T]) -> T:
        """Return what ``work`` returns, given connections to jobs and runs, in one transaction where that is possible."""
        return self.database.repeat(self.write_all, work)

    def transact_runs(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` returns, given a connection to runs, in a transaction."""
        return self.runs_database.transact(self.runs_table, work)

    def transact_runs_each(self, work: Callable[[Connection], T]) -> T:
        """Do the same where each statement may be a transaction of its own."""
        return self.runs_database.transact_each(self.runs_table, work)

    def close(self) -> None:
        """Close the connections that were opened here."""
        self.database.close()
        if self.runs_database is not self.database:
            self.runs_database.close()
