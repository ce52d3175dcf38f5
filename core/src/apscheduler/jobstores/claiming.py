"""One claim against a store whose records carry tokens: read, plan, and write what nobody has changed meanwhile."""

import heapq
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

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
from apscheduler.runs import Plan, Run, RunState, RunTimes
from apscheduler.util import utc_timestamp_to_datetime

# So many records are read at a time.
PAGE_SIZE = 500


@dataclass(slots=True)
class DueJob:
    """The record of a job whose time has come.

    :ivar timestamp: its run time, in seconds since 1970
    :ivar data: the bytes that the job is restored from
    :ivar open_claims: how many claims of the job have runs that are going on
    :ivar token: what tells whether the record, and the number of claims, are still the same; up to the store
    """

    id: str
    timestamp: float
    data: bytes
    open_claims: int = 0
    token: Any = None


@dataclass(slots=True)
class ReadyRuns:
    """Runs that were claimed together once and are to be started again as one instance, or a single ready run.

    :ivar timestamp: when they became available, in seconds since 1970
    :ivar runs: in the order of their scheduled times
    :ivar data: the copy of the job that is kept with them, the job may be gone
    :ivar open_claims: how many claims of the job have runs that are going on
    :ivar token: what tells whether the runs, and the number of claims, are still the same; up to the store
    """

    job_id: str
    timestamp: float
    runs: list[Run]
    data: bytes
    open_claims: int = 0
    token: Any = None


@dataclass(slots=True)
class Step:
    """What is to be written about one job, all or nothing, if the record is still the one that was read.

    :ivar record: what was read
    :ivar claim: what it makes of it; ``claim.run_times`` are to be recorded as running
    :ivar timestamp: the next run time in seconds since 1970; None if the job is to be deleted, or was not touched
        because the runs were ready
    :ivar idle: the records of fire times that do not run, to be kept as history
    """

    record: DueJob | ReadyRuns
    claim: Claim
    timestamp: float | None = None
    idle: list[Run] = field(default_factory=list)


class ClaimPass(ABC):
    """Carries out one claim request. A store says how its records are read and how steps are written."""

    def __init__(self, restorer: Restorer, alias: str | None, request: ClaimRequest):
        self.restorer = restorer
        self.alias = alias
        self.request = request
        self.timestamp = request.now.timestamp()
        self.batch = ClaimBatch()
        self._started: dict[str, int] = {}
        self._steps: list[Step] = []

    @abstractmethod
    def read_due(self, after: DueJob | None, size: int) -> Sequence[DueJob]:
        """Return due jobs that follow another one, earliest first, those of one time by identifier; at most so many.

        Fewer mean that there are no more.
        """

    @abstractmethod
    def read_ready(self, after: ReadyRuns | None, size: int) -> Sequence[ReadyRuns]:
        """Return ready runs that are available and follow others, those waiting longest first; at most so many.

        Fewer mean that there are no more.
        """

    @abstractmethod
    def write(self, steps: Sequence[Step]) -> Sequence[bool]:
        """Carry out each step whose record is unchanged, and return of each whether it was carried out.

        The step that starts runs also records the lease of their owner, if the request has one. Of two steps about
        one job the later may be refused because of the earlier.
        """

    @abstractmethod
    def find_next(self) -> float | None:
        """Return the earliest time later than now at which a job is due or a ready run available."""

    def is_held(self, job_id: str) -> bool:
        """Return whether others are about to claim or to change the job, so that nothing of it is claimed now."""
        return False

    def count_open(self, record: DueJob | ReadyRuns) -> int:
        """Return how many claims of the job have runs that are going on; what this pass claims does not count."""
        return record.open_claims

    def carry_out(self) -> ClaimBatch:
        """Claim, write, and return what was claimed."""
        for record in self._candidates():
            if len(self._steps) >= self.request.limit:
                self.batch.more = True
                break
            if isinstance(record, ReadyRuns):
                self._take_ready(record)
            else:
                self._take_due(record)
        is_complete = self._write()
        # Who was refused was not fast enough: what has become of the job is looked at at once.
        self.batch.next_run_time = (
            self._next_time() if is_complete else self.request.now
        )
        return self.batch

    def _candidates(self) -> Iterator[ReadyRuns | DueJob]:
        """Return what may be claimed, those waiting longest first."""
        ready = self._all_ready()
        first = next(ready, None)
        if first is None:  # as nearly always
            return self._all_due()
        return heapq.merge(
            itertools.chain([first], ready),
            self._all_due(),
            key=lambda record: record.timestamp,
        )

    def _page_size(self) -> int:
        # One more than wanted, to see whether there are more.
        return min(PAGE_SIZE, self.request.limit - len(self._steps)) + 1

    def _all_due(self) -> Iterator[DueJob]:
        after: DueJob | None = None
        while True:
            size = self._page_size() if after is None else PAGE_SIZE
            page = self.read_due(after, size)
            yield from page
            if len(page) < size:
                return
            after = page[-1]

    def _all_ready(self) -> Iterator[ReadyRuns]:
        after: ReadyRuns | None = None
        while True:
            size = self._page_size() if after is None else PAGE_SIZE
            page = self.read_ready(after, size)
            yield from page
            if len(page) < size:
                return
            after = page[-1]

    def _is_full(self, record: DueJob | ReadyRuns, job: Job) -> bool:
        started = self._started.get(job.id, 0)
        return self.count_open(record) + started >= job.max_instances

    def _take_due(self, due: DueJob) -> None:
        request = self.request
        job = self.restorer.restore_due(due.id, due.data, due.timestamp)
        if job is None or self.is_held(due.id):
            return
        plan = request.plan(job)
        if plan is None:
            return
        skipped = bool(plan.run_times) and self._is_full(due, job)
        if skipped and request.waits(job, plan):
            self.batch.waiting = True
            return
        run_times = RunTimes() if skipped else started_times(plan, request.identity)
        if run_times:
            self._started[job.id] = self._started.get(job.id, 0) + 1
        step = Step(due, Claim(job, plan, run_times, skipped))
        if (skipped or plan.missed or plan.coalesced) and request.keeps_history_of(job):
            step.idle = idle_runs(
                job, plan, skipped, self.alias, request.identity, request.now
            )
        job.next_run_time = plan.next_run_time
        if plan.next_run_time is not None:
            step.timestamp = plan.next_run_time.timestamp()
        self._steps.append(step)

    def _take_ready(self, ready: ReadyRuns) -> None:
        first = ready.runs[0]
        job = self.restorer.restore_copy(ready.job_id, first.id, ready.data)
        if job is None or self.is_held(ready.job_id):
            return
        if self._is_full(ready, job):
            self.batch.waiting = True
            return
        if not self.request.accepts(job):
            return
        self._started[job.id] = self._started.get(job.id, 0) + 1
        node = self.request.identity.node.id
        for run in ready.runs:
            run.state, run.node, run.available_at = RunState.RUNNING, node, None
            run.claim_id = first.id
        plan = Plan([run.scheduled_time for run in ready.runs], job.next_run_time)
        claim = Claim(job, plan, run_times_of(ready.runs), ready=True)
        self._steps.append(Step(ready, claim))

    def _write(self) -> bool:
        """Write the steps, and return whether all were carried out."""
        if not self._steps:
            return True
        carried_out = self.write(self._steps)
        for step, was_carried_out in zip(self._steps, carried_out, strict=True):
            if was_carried_out:
                self.batch.claims.append(step.claim)
                if step.timestamp is None:
                    if step.claim.is_finished:
                        self.restorer.forget(step.claim.job.id)
                elif step.timestamp <= self.timestamp:
                    self.batch.more = True
        return all(carried_out)

    def _next_time(self) -> datetime | None:
        next_time = utc_timestamp_to_datetime(self.find_next())
        times = [] if next_time is None else [next_time]
        delay = self.restorer.retry_delay()
        if delay is not None:
            times.append(self.request.now + timedelta(seconds=delay))
        return min(times, default=None)


def group_ready(
    rows: Sequence[tuple[Run, bytes, int, Any]],
) -> list[ReadyRuns]:
    """Return ready runs, given as run, copy of the job, open claims and token, with those that start together as one.

    Runs that were claimed together and handed back, or taken over, start together again. The token becomes the list
    of their tokens.
    """
    groups: dict[tuple[str, int], ReadyRuns] = {}
    for run, data, open_claims, token in rows:
        key = (run.claim_id or run.id, run.attempt)
        group = groups.get(key)
        if group is None:
            available_at = run.available_at or run.scheduled_time
            group = ReadyRuns(
                run.job_id, available_at.timestamp(), [], data, open_claims, []
            )
            groups[key] = group
        group.runs.append(run)
        group.token.append(token)
    for group in groups.values():
        order = sorted(
            range(len(group.runs)), key=lambda i: group.runs[i].scheduled_time
        )
        group.runs = [group.runs[i] for i in order]
        group.token = [group.token[i] for i in order]
    return list(groups.values())
