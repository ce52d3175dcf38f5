"""The statements on the table of jobs that claiming needs, made once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Table,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
)

from apscheduler.jobstores.sqlalchemy.flavours import Flavour
from apscheduler.jobstores.sqlalchemy.runs import RunTable
from apscheduler.jobstores.sqlalchemy.statements import ListStatement, Statement
from apscheduler.jobstores.sqlalchemy.tables import READY, AnyRow, Place
from apscheduler.jobstores.sqlalchemy.writing import deleting, updating


class Rest(NamedTuple):
    """What a claim leaves behind.

    :ivar first_job: the earliest run time of a job that is not due yet
    :ivar first_ready: the earliest time of a ready run that is not available yet
    :ivar jobs: how many jobs are due, counted up to a limit
    :ivar ready: how many ready runs are available, counted up to a limit
    """

    first_job: float | None
    first_ready: float | None
    jobs: int = 0
    ready: int = 0


class ClaimStatements:
    """Reads and moves jobs, within the transaction of the caller.

    :param flavour: of the database that the jobs are in
    """

    def __init__(self, jobs: Table, flavour: Flavour, runs: RunTable):
        c = jobs.c
        # Where several claims may be under way at once, each has to lock whatever it counts on.
        self.is_shared = flavour.skips_locked and runs.flavour.skips_locked
        due = (
            select(c.id, c.next_run_time, c.job_state)
            .where(c.next_run_time <= bindparam("now"))
            .order_by(c.next_run_time, c.id)
            .limit(bindparam("size", type_=Integer))
        )
        due = flavour.lock(due, jobs, "next_run_time")
        following = or_(
            c.next_run_time > bindparam("after_time"),
            and_(
                c.next_run_time == bindparam("after_time"), c.id > bindparam("after_id")
            ),
        )
        self._due = Statement(due, ("now", "size"))
        self._due_after = Statement(
            due.where(following), ("now", "size", "after_time", "after_id")
        )
        self._existing = ListStatement(flavour, select(c.id), c.id)
        locked = flavour.lock(select(c.id), jobs)
        self._lock = ListStatement(flavour, locked, c.id)
        self.move = updating(flavour, jobs, ("next_run_time",), ("id",), is_locked=True)
        self.finish = deleting(flavour, jobs, ("id",))
        self._make_searches(c.next_run_time, runs.runs)

    def _make_searches(self, run_time: ColumnElement[Any], runs: Table) -> None:
        """Make what finds the earliest times."""
        available_at = runs.c.available_at
        first_job = select(func.min(run_time))
        # The condition is what lets databases use the index, which leaves out runs that do not wait.
        first_ready = select(func.min(available_at)).where(available_at.is_not(None))
        after: BindParameter[Any] = bindparam("after")
        next_job = first_job.where(run_time > after)
        next_ready = first_ready.where(available_at > after)
        self._first = _Search(first_job, first_ready, ())
        self._next = _Search(next_job, next_ready, ("after",))
        # Of what is there nothing may be due, and a database that looks through a table to find that out sees all of
        # it, with what it was before. In the order of the index it looks there.
        one = literal(1).label("one")
        due = _count(select(one).where(run_time <= after).order_by(run_time), "jobs")
        ready = _count(
            select(one)
            .where(available_at <= after, runs.c.state == READY)
            .order_by(available_at),
            "ready",
        )
        rest = [next_job.scalar_subquery(), next_ready.scalar_subquery(), due, ready]
        self._rest = Statement(select(*rest), ("after", "jobs", "ready"))

    def read_due(
        self,
        connection: Connection,
        timestamp: float,
        after: Place | None,
        limit: int,
    ) -> Sequence[AnyRow]:
        """Return due jobs, earliest first, that follow another one."""
        if after is None:
            return self._due.execute(connection, timestamp, limit).all()
        return self._due_after.execute(connection, timestamp, limit, *after).all()

    def lock_jobs(
        self, connection: Connection, job_ids: Sequence[str]
    ) -> tuple[set[str], set[str]]:
        """Lock these jobs; return those for which that was possible, and those that are there."""
        locked = set(self._lock.execute(connection, job_ids).scalars())
        return locked, set(self._existing.execute(connection, job_ids).scalars())

    def find_times(
        self, connection: Connection, runs: Connection, after: float | None
    ) -> tuple[float | None, float | None]:
        """Return the earliest run time of a job and of a ready run, of those later than ``after`` if given."""
        if after is None:
            return self._first.execute(connection, runs)
        return self._next.execute(connection, runs, after)

    def find_rest(
        self, connection: Connection, now: float, jobs_limit: int, ready_limit: int
    ) -> Rest:
        """Return what is left, also of what others have locked."""
        values = (now, jobs_limit, ready_limit)
        return Rest._make(self._rest.execute(connection, *values).one())


class _Search:
    """Finds an earliest time of jobs and one of ready runs: at once, where both are in one database."""

    def __init__(self, job: Select[Any], ready: Select[Any], names: Sequence[str]):
        both = select(job.scalar_subquery(), ready.scalar_subquery())
        self._both = Statement(both, names)
        self._job = Statement(job, names)
        self._ready = Statement(ready, names)

    def execute(
        self, connection: Connection, runs: Connection, *values: Any
    ) -> tuple[float | None, float | None]:
        if connection is runs:
            row: AnyRow = self._both.execute(connection, *values).one()
            return row[0], row[1]
        job = self._job.execute(connection, *values).scalar()
        return job, self._ready.execute(runs, *values).scalar()


def _count(rows: Select[Any], limit: str) -> Any:
    """Return a query that counts rows, but no more than the limit."""
    limited = rows.limit(bindparam(limit, type_=Integer)).subquery()
    return select(func.count()).select_from(limited).scalar_subquery()
