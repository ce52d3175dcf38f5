"""One claim: what is due and ready, planned and moved on, in the transaction of the caller."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from apscheduler.job import Job
from apscheduler.jobstores.contract import (
    Claim,
    ClaimBatch,
    ClaimRequest,
    idle_runs,
    run_times_of,
    started_times,
)
from apscheduler.jobstores.restore import Restorer
from apscheduler.jobstores.sqlalchemy.claim_statements import ClaimStatements, Rest
from apscheduler.jobstores.sqlalchemy.statements import Values
from apscheduler.jobstores.sqlalchemy.tables import (
    AnyRow,
    running_rows,
    special_rows,
    to_datetime,
    to_row,
    to_run,
)
from apscheduler.runs import Plan, Run, RunState, RunTimes

# So many rows are read at a time, and their open claims counted in one query.
PAGE_SIZE = 500


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
        # Whether something was left because others had locked it: they are about to claim or to change it.
        self.met_locks = False
        # Open claims of each job: those that are written, and those of this pass.
        self._open: dict[str, int] = {}
        self._new: dict[str, int] = {}
        # Jobs of which nothing may be started now, and those whose ready runs are locked.
        self._blocked: set[str] = set()
        self._secured: set[str] = set()
        # How much of what is due was looked at and left.
        self._jobs_left = self._ready_left = 0
        self._moved: list[Values] = []
        self._finished: list[Values] = []
        self._started: list[Values] = []
        self._begun: list[Values] = []
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
            self._jobs_left += len(rows)
            for job_id, timestamp, data in rows:
                data = bytes(data)  # some drivers give a view of them
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
            if rows:
                self._secure_ready([row.job_id for row in rows])
            self._ready_left += len(rows)
            for members in _group(rows):
                first = members[0]
                job = self.restorer.restore_copy(
                    first.job_id, first.id, bytes(first.job_state)
                )
                if job is not None:
                    runs = [to_run(row, self.alias) for row in members]
                    yield _Ready(first.available_at, job, runs)
            if len(rows) < size:
                return
            after = rows[-1]

    def _count(self, job_ids: Sequence[str]) -> None:
        """Count the open claims of due jobs, whose records are locked."""
        unknown = [job_id for job_id in job_ids if job_id not in self._open]
        if not unknown:
            return
        runs = self.statements.runs
        opened = runs.count_open(self.runs_connection, unknown)
        self._open |= {job_id: opened[job_id].claims for job_id in unknown}
        self._lock_ready([job_id for job_id in unknown if opened[job_id].ready])

    def _secure_ready(self, job_ids: Sequence[str]) -> None:
        """Keep others from starting anything of the jobs of ready runs, and count their open claims."""
        unknown = list(dict.fromkeys(i for i in job_ids if i not in self._secured))
        if not unknown:
            return
        if not self.statements.is_shared:
            self._count(unknown)
            return
        locked, existing = self.statements.lock_jobs(self.connection, unknown)
        self._block({i for i in unknown if i in existing and i not in locked})
        self._lock_ready(unknown)

    def _lock_ready(self, job_ids: Sequence[str]) -> None:
        """Lock all ready runs of these jobs, and count again.

        Whoever claims anything of a job holds its record, if there is one, and all of its ready runs that can be
        seen. Of two that do so at once, the later finds something locked: be it the record, be it a ready run, also
        where the job was removed or added meanwhile. What the earlier has started can be seen once its locks are gone.
        """
        if not job_ids or not self.statements.is_shared:
            return
        runs = self.statements.runs
        locked = runs.lock_ready(self.runs_connection, job_ids)
        opened = runs.count_open(self.runs_connection, job_ids)
        self._open |= {job_id: opened[job_id].claims for job_id in job_ids}
        self._block({i for i in job_ids if opened[i].ready > locked.get(i, 0)})
        self._secured.update(job_ids)

    def _is_full(self, job: Job) -> bool:
        opened = self._open[job.id] + self._new.get(job.id, 0)
        return opened >= job.max_instances

    def _block(self, job_ids: set[str]) -> None:
        self._blocked |= job_ids
        self.met_locks |= bool(job_ids)

    def _take_due(self, due: _Due) -> None:
        job, request = due.job, self.request
        if job.id in self._blocked:
            return
        plan = request.plan(job)
        if plan is None:
            return
        is_full = self._is_full(job)
        skipped = bool(plan.run_times) and is_full
        if skipped:
            run_times = RunTimes()
        else:
            run_times = started_times(plan, request.identity)
        if run_times:
            self._new[job.id] = self._new.get(job.id, 0) + 1
            node = request.identity.node.id
            if job.on_lost == "retry" or job.history is not None:
                self._recorded += special_rows(job, run_times, node, due.data)
            else:
                self._begun += running_rows(job, run_times, node)
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
        if plan.next_run_time is None or time > self.timestamp:
            self._jobs_left -= 1
        self.batch.claims.append(Claim(job, plan, run_times, skipped))

    def _take_ready(self, ready: _Ready) -> None:
        job = ready.job
        if job.id in self._blocked:
            return
        if self._is_full(job):
            self.batch.waiting = True
            return
        if not self.request.accepts(job):
            return
        self._new[job.id] = self._new.get(job.id, 0) + 1
        node = self.request.identity.node.id
        for run in ready.runs:
            run.state, run.node, run.available_at = RunState.RUNNING, node, None
            run.claim_id = ready.runs[0].id
            self._started.append((node, run.claim_id, run.id))
        self._ready_left -= len(ready.runs)
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
        if self._begun:
            statements.runs.begin(self.runs_connection, self._begun)
        if self._recorded:
            statements.runs.insert(self.runs_connection, self._recorded)

    def _next_time(self) -> datetime | None:
        rest = self._find_rest()
        # A locked row is neither missing nor done.
        self.met_locks |= rest.jobs > self._jobs_left or rest.ready > self._ready_left
        found = (rest.first_job, rest.first_ready)
        times = [to_datetime(time) for time in found if time is not None]
        delay = self.restorer.retry_delay()
        if delay is not None:
            times.append(self.request.now + timedelta(seconds=delay))
        return min(times, default=None)

    def _find_rest(self) -> Rest:
        statements, connection = self.statements, self.connection
        # What was not looked at is known to be there.
        if self.statements.is_shared and not self.batch.more:
            limits = (self._jobs_left + 1, self._ready_left + 1)
            return statements.find_rest(connection, self.timestamp, *limits)
        times = statements.find_times(connection, self.runs_connection, self.timestamp)
        return Rest(*times)


def _group(rows: Sequence[AnyRow]) -> list[list[AnyRow]]:
    """Return the rows in groups of those that were claimed together, and so start together."""
    groups: dict[tuple[str, int], list[AnyRow]] = {}
    for row in rows:
        groups.setdefault((row.claim_id or row.id, row.attempt), []).append(row)
    for members in groups.values():
        members.sort(key=lambda row: row.scheduled_time)
    return list(groups.values())
