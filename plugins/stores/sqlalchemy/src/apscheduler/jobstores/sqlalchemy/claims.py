"""One claim: what is due and ready, planned and moved on, in the transaction of the caller."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)

from apscheduler.job import Job
from apscheduler.jobstores.contract import (
    Claim,
    ClaimBatch,
    ClaimRequest,
    idle_runs,
    run_times_of,
    started_times,
)
from apscheduler.jobstores.sqlalchemy.restore import Restorer
from apscheduler.jobstores.sqlalchemy.runs import RunTable
from apscheduler.jobstores.sqlalchemy.statements import Statement, Values
from apscheduler.jobstores.sqlalchemy.tables import (
    AnyRow,
    running_rows,
    to_datetime,
    to_row,
    to_run,
)
from apscheduler.runs import Plan, Run, RunState, RunTimes

# So many rows are read at a time, and their open claims counted in one query.
PAGE_SIZE = 500


class ClaimStatements:
    """The statements on the table of jobs that claiming needs, made once."""

    def __init__(self, jobs: Table, runs: RunTable):
        c = jobs.c
        self.runs = runs
        due = (
            select(c.id, c.next_run_time, c.job_state)
            .where(c.next_run_time <= bindparam("now"))
            .order_by(c.next_run_time, c.id)
            .limit(bindparam("size", type_=Integer))
        )
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
        chosen = c.id == bindparam("_id")
        moved = update(jobs).where(chosen).values(next_run_time=bindparam("time"))
        self.move = Statement(moved, ("time", "_id"))
        self.finish = Statement(delete(jobs).where(chosen), ("_id",))
        self._make_searches(c.next_run_time, runs.runs.c.available_at)

    def _make_searches(
        self, run_time: ColumnElement[Any], available_at: ColumnElement[Any]
    ) -> None:
        """Make what finds the earliest times."""
        first_job = select(func.min(run_time))
        # The condition is what lets databases use the index, which leaves out runs that do not wait.
        first_ready = select(func.min(available_at)).where(available_at.is_not(None))
        after: BindParameter[Any] = bindparam("after")
        next_job = first_job.where(run_time > after)
        next_ready = first_ready.where(available_at > after)
        self._first = _Search(first_job, first_ready, ())
        self._next = _Search(next_job, next_ready, ("after",))

    def read_due(
        self,
        connection: Connection,
        timestamp: float,
        after: AnyRow | None,
        limit: int,
    ) -> Sequence[AnyRow]:
        """Return due jobs, earliest first, that follow another one."""
        if after is None:
            return self._due.execute(connection, timestamp, limit).all()
        values = (timestamp, limit, after.next_run_time, after.id)
        return self._due_after.execute(connection, *values).all()

    def find_times(
        self, connection: Connection, runs: Connection, after: float | None
    ) -> tuple[float | None, float | None]:
        """Return the earliest run time of a job and of a ready run, of those later than ``after`` if given."""
        if after is None:
            return self._first.execute(connection, runs)
        return self._next.execute(connection, runs, after)


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


@dataclass(slots=True)
class _Due:
    """A job whose time has come."""

    timestamp: float
    job: Job
    data: bytes


@dataclass(slots=True)
class _Ready:
    """Runs that were claimed together once and are to be started again, as one instance."""

    timestamp: float
    job: Job
    runs: list[Run]


class ClaimPass:
    """Carries out one claim request.

    :param connection: to the jobs
    :param runs_connection: to the runs, usually the same
    """

    def __init__(
        self,
        statements: ClaimStatements,
        restorer: Restorer,
        alias: str | None,
        connection: Connection,
        runs_connection: Connection,
        request: ClaimRequest,
    ):
        self.statements = statements
        self.restorer = restorer
        self.alias = alias
        self.connection = connection
        self.runs_connection = runs_connection
        self.request = request
        self.timestamp = request.now.timestamp()
        self.batch = ClaimBatch()
        self._open: dict[str, int] = {}
        self._moved: list[Values] = []
        self._finished: list[Values] = []
        self._started: list[dict[str, Any]] = []
        self._recorded: list[Values] = []

    @property
    def starts_runs(self) -> bool:
        """Whether this claim makes its node the owner of runs."""
        return any(claim.run_times for claim in self.batch.claims)

    def carry_out(self) -> ClaimBatch:
        """Claim, write, and return what was claimed."""
        candidates: Iterator[_Ready | _Due] = heapq.merge(
            self._ready(),
            self._due(),
            key=lambda candidate: candidate.timestamp,
        )
        for candidate in candidates:
            if len(self.batch.claims) >= self.request.limit:
                self.batch.more = True
                break
            if isinstance(candidate, _Ready):
                self._take_ready(candidate)
            else:
                self._take_due(candidate)
        self._write()
        self.batch.next_run_time = self._next_time()
        return self.batch

    def _page_size(self) -> int:
        # One more than wanted, to see whether there are more.
        return min(PAGE_SIZE, self.request.limit - len(self.batch.claims) + 1)

    def _due(self) -> Iterator[_Due]:
        after: AnyRow | None = None
        while True:
            size = self._page_size() if after is None else PAGE_SIZE
            rows = self.statements.read_due(
                self.connection, self.timestamp, after, size
            )
            self._count([row.id for row in rows])
            for job_id, timestamp, data in rows:
                job = self.restorer.restore_due(job_id, data, timestamp)
                if job is not None:
                    yield _Due(timestamp, job, data)
            if len(rows) < size:
                return
            after = rows[-1]

    def _ready(self) -> Iterator[_Ready]:
        after: AnyRow | None = None
        while True:
            size = self._page_size() if after is None else PAGE_SIZE
            rows = self.statements.runs.read_ready(
                self.runs_connection, self.timestamp, after, size
            )
            self._count([row.job_id for row in rows])
            for members in _group(rows):
                first = members[0]
                job = self.restorer.restore_copy(
                    first.job_id, first.id, first.job_state
                )
                if job is not None:
                    runs = [to_run(row, self.alias) for row in members]
                    yield _Ready(first.available_at, job, runs)
            if len(rows) < size:
                return
            after = rows[-1]

    def _count(self, job_ids: Sequence[str]) -> None:
        unknown = [job_id for job_id in job_ids if job_id not in self._open]
        if unknown:
            counted = self.statements.runs.count_claims(self.runs_connection, unknown)
            self._open.update(dict.fromkeys(unknown, 0) | counted)

    def _take_due(self, due: _Due) -> None:
        job, request = due.job, self.request
        plan = request.plan(job)
        if plan is None:
            return
        is_full = self._open[job.id] >= job.max_instances
        skipped = bool(plan.run_times) and is_full
        if skipped:
            run_times = RunTimes()
        else:
            run_times = started_times(plan, request.identity)
        if run_times:
            self._open[job.id] += 1
            self._recorded += running_rows(
                job, run_times, request.identity.node.id, due.data
            )
        if (skipped or plan.missed or plan.coalesced) and job.history != 0:
            idle = idle_runs(
                job, plan, skipped, self.alias, request.identity, request.now
            )
            self._recorded += [to_row(run, job, None) for run in idle]
        job.next_run_time = plan.next_run_time
        if plan.next_run_time is None:
            self._finished.append((job.id,))
        else:
            time = plan.next_run_time.timestamp()
            self._moved.append((time, job.id))
            self.batch.more |= time <= self.timestamp
        self.batch.claims.append(Claim(job, plan, run_times, skipped))

    def _take_ready(self, ready: _Ready) -> None:
        job = ready.job
        if self._open[job.id] >= job.max_instances:
            self.batch.waiting = True
            return
        if not self.request.accepts(job):
            return
        self._open[job.id] += 1
        node = self.request.identity.node.id
        for run in ready.runs:
            run.state, run.node, run.available_at = RunState.RUNNING, node, None
            run.claim_id = ready.runs[0].id
            self._started.append(
                {"_id": run.id, "node": node, "claim_id": run.claim_id}
            )
        plan = Plan([run.scheduled_time for run in ready.runs], job.next_run_time)
        self.batch.claims.append(Claim(job, plan, run_times_of(ready.runs), ready=True))

    def _write(self) -> None:
        statements = self.statements
        if self._moved:
            statements.move.execute_many(self.connection, self._moved)
        if self._finished:
            statements.finish.execute_many(self.connection, self._finished)
        if self._started:
            statements.runs.start_ready(self.runs_connection, self._started)
        if self._recorded:
            statements.runs.insert(self.runs_connection, self._recorded)

    def _next_time(self) -> datetime | None:
        times = [
            to_datetime(time)
            for time in self.statements.find_times(
                self.connection, self.runs_connection, self.timestamp
            )
            if time is not None
        ]
        delay = self.restorer.retry_delay()
        if delay is not None:
            times.append(self.request.now + timedelta(seconds=delay))
        return min(times, default=None)


def _group(rows: Sequence[AnyRow]) -> list[list[AnyRow]]:
    """Return the rows in groups of those that were claimed together, and so start together."""
    groups: dict[tuple[str, int], list[AnyRow]] = {}
    for row in rows:
        groups.setdefault((row.claim_id or row.id, row.attempt), []).append(row)
    for members in groups.values():
        members.sort(key=lambda row: row.scheduled_time)
    return list(groups.values())
