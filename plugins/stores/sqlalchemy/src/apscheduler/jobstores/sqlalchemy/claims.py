"""One claim: what is due and ready, planned and moved on, in the transaction of the caller."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
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
    running_runs,
)
from apscheduler.jobstores.sqlalchemy.batches import Batch
from apscheduler.jobstores.sqlalchemy.restore import Restorer
from apscheduler.jobstores.sqlalchemy.runs import RunTable
from apscheduler.jobstores.sqlalchemy.tables import AnyRow, to_datetime, to_row, to_run
from apscheduler.runs import Plan, Run, RunState

# So many rows are read at a time, and their open claims counted in one query.
PAGE_SIZE = 500


class ClaimStatements:
    """The statements on the table of jobs that claiming needs, made once."""

    def __init__(self, jobs: Table, runs: RunTable):
        c = jobs.c
        self.runs = runs
        self._due = (
            select(c.id, c.next_run_time, c.job_state)
            .where(c.next_run_time <= bindparam("now"))
            .order_by(c.next_run_time, c.id)
            .limit(bindparam("size", type_=Integer))
        )
        self._due_after = self._due.where(
            or_(
                c.next_run_time > bindparam("after_time"),
                and_(
                    c.next_run_time == bindparam("after_time"),
                    c.id > bindparam("after_id"),
                ),
            )
        )
        chosen = c.id == bindparam("_id")
        moved = update(jobs).where(chosen).values(next_run_time=bindparam("time"))
        self.move = Batch(moved, ("_id", "time"))
        self.finish = Batch(delete(jobs).where(chosen), ("_id",))
        self.first_job = select(func.min(c.next_run_time))
        available_at = runs.runs.c.available_at
        # The condition is what lets databases use the index, which leaves out runs that do not wait.
        self.first_ready = select(func.min(available_at)).where(
            available_at.is_not(None)
        )
        after = bindparam("after", type_=c.next_run_time.type)
        self.next_job = self.first_job.where(c.next_run_time > after)
        self.next_ready = self.first_ready.where(available_at > after)
        # Of jobs and ready runs at once, where both are in one database.
        self.first = select(
            self.first_job.scalar_subquery(), self.first_ready.scalar_subquery()
        )
        self.next = select(
            self.next_job.scalar_subquery(), self.next_ready.scalar_subquery()
        )

    def read_due(
        self,
        connection: Connection,
        timestamp: float,
        after: AnyRow | None,
        limit: int,
    ) -> Sequence[AnyRow]:
        """Return due jobs, earliest first, that follow another one."""
        values = {"now": timestamp, "size": limit}
        if after is None:
            return connection.execute(self._due, values).all()
        values |= {"after_time": after.next_run_time, "after_id": after.id}
        return connection.execute(self._due_after, values).all()

    def find_times(
        self, connection: Connection, runs: Connection, after: float | None
    ) -> tuple[float | None, float | None]:
        """Return the earliest run time of a job and of a ready run, of those later than ``after`` if given."""
        values = {} if after is None else {"after": after}
        if connection is runs:
            both = self.first if after is None else self.next
            row = connection.execute(both, values).one()
            return row[0], row[1]
        job, ready = (
            (self.first_job, self.first_ready)
            if after is None
            else (self.next_job, self.next_ready)
        )
        return connection.scalar(job, values), runs.scalar(ready, values)


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
        self._moved: list[dict[str, Any]] = []
        self._finished: list[dict[str, Any]] = []
        self._started: list[dict[str, Any]] = []
        self._recorded: list[dict[str, Any]] = []

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
            for row in rows:
                job = self.restorer.restore_due(
                    row.id, row.job_state, row.next_run_time
                )
                if job is not None:
                    yield _Due(row.next_run_time, job, row.job_state)
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
        runs: list[Run] = []
        if plan.run_times and not skipped:
            runs = running_runs(job, plan, self.alias, request.identity)
            self._open[job.id] += 1
        kept = due.data if job.on_lost == "retry" else None
        self._recorded += [to_row(run, job, kept) for run in runs]
        if (skipped or plan.missed or plan.coalesced) and job.history != 0:
            idle = idle_runs(
                job, plan, skipped, self.alias, request.identity, request.now
            )
            self._recorded += [to_row(run, job, None) for run in idle]
        job.next_run_time = plan.next_run_time
        if plan.next_run_time is None:
            self._finished.append({"_id": job.id})
        else:
            time = plan.next_run_time.timestamp()
            self._moved.append({"_id": job.id, "time": time})
            self.batch.more |= time <= self.timestamp
        self.batch.claims.append(Claim(job, plan, run_times_of(runs), skipped))

    def _take_ready(self, ready: _Ready) -> None:
        job = ready.job
        if self._open[job.id] >= job.max_instances or not self.request.accepts(job):
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
            statements.move.execute(self.connection, self._moved)
        if self._finished:
            statements.finish.execute(self.connection, self._finished)
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
