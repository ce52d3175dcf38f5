"""Jobs in the memory of the process: a heap of run times and a dict of jobs."""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import (
    HISTORY_DAYS,
    HISTORY_RUNS,
    Claim,
    ClaimBatch,
    ClaimRequest,
    StoredJob,
)
from apscheduler.jobstores.ledger import LedgerJobStore, RunLedger
from apscheduler.runs import Plan

# Below this many a heap is not worth tidying.
MIN_STALE = 64


class _Entry:
    """A job and where it stands in the heap."""

    __slots__ = ("item", "job", "timestamp")

    def __init__(self, job: Job):
        self.job = job
        self.timestamp: float | None = None
        # The live heap item of this job; also its token: every write makes another one.
        self.item: tuple[float, str, int, _Entry] | object = object()


_Item = tuple[float, str, int, _Entry]


class MemoryJobStore(LedgerJobStore):
    """Keeps the job objects themselves, nothing is serialised: everything is forgotten at shutdown.

    :param history_days: for how long finished runs are kept; None: no limit
    :param history_runs: how many finished runs are kept of each job that does not say; 0: none; None: no limit. Of all
        jobs together it is 10,000
    :raises ValueError: if these are not such numbers
    """

    shareable = False  # other processes do not see this memory
    keeps_runs = False  # for the same reason
    performs_io = False

    def __init__(
        self,
        *,
        history_days: float | None = HISTORY_DAYS,
        history_runs: int | None = HISTORY_RUNS,
    ) -> None:
        super().__init__()
        self.limit_history(history_days, history_runs)
        self._entries: dict[str, _Entry] = {}
        # Ordered by (time, id); items that were replaced stay until they come up or are too many.
        self._heap: list[_Item] = []
        self._numbers = count()
        self._ledger = RunLedger()
        self._lock = threading.RLock()

    @property
    def _jobs(self) -> list[tuple[Job, float | None]]:
        """The jobs and their timestamps in order, as subclasses written for APScheduler 3 read them."""
        with self._lock:
            pairs = [(entry.job, entry.timestamp) for entry in self._entries.values()]
        return sorted(
            pairs,
            key=lambda pair: (
                pair[1] is None,
                0.0 if pair[1] is None else pair[1],
                pair[0].id,
            ),
        )

    @property
    def _jobs_index(self) -> dict[str, tuple[Job, float | None]]:
        """The same pairs by job id."""
        return {pair[0].id: pair for pair in self._jobs}

    def lookup_job(self, job_id: str) -> Job | None:
        entry = self._entries.get(job_id)
        return entry.job if entry is not None else None

    def get_due_jobs(self, now: datetime) -> list[Job]:
        limit = now.timestamp()
        return [
            job
            for job, timestamp in self._jobs
            if timestamp is not None and timestamp <= limit
        ]

    def get_next_run_time(self) -> datetime | None:
        with self._lock:
            self._drop_stale()
            return self._heap[0][3].job.next_run_time if self._heap else None

    def get_all_jobs(self) -> list[Job]:
        return [job for job, _ in self._jobs]

    def add_job(self, job: Job) -> None:
        with self._lock:
            if job.id in self._entries:
                raise ConflictingIdError(job.id)
            entry = self._entries[job.id] = _Entry(job)
            self._place(entry)

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        with self._lock:
            seen = set()
            for job in jobs:
                if job.id in self._entries or job.id in seen:
                    raise ConflictingIdError(job.id)
                seen.add(job.id)
            for job in jobs:
                self.add_job(job)

    def update_job(self, job: Job) -> None:
        with self._lock:
            entry = self._find(job.id)
            entry.job = job
            self._place(entry)

    def remove_job(self, job_id: str) -> None:
        with self._lock:
            self._forget(self._find(job_id))

    def remove_all_jobs(self) -> None:
        with self._lock:
            self._entries.clear()
            self._heap.clear()

    def shutdown(self) -> None:
        self.remove_all_jobs()
        with self._lock:
            self._ledger.forget_all()

    def read_job(self, job_id: str) -> StoredJob | None:
        entry = self._entries.get(job_id)
        return StoredJob(entry.job, entry.item) if entry is not None else None

    def change_job(self, stored: StoredJob, changes: Mapping[str, Any]) -> bool:
        with self._lock:
            entry = self._entries.get(stored.job.id)
            if entry is None or entry.job is not stored.job:
                return False
            if "next_run_time" in changes and entry.item is not stored.token:
                return False
            entry.job._modify(**changes)
            if "next_run_time" in changes:
                self._place(entry)
            return True

    def discard_job(self, stored: StoredJob) -> bool:
        with self._lock:
            entry = self._entries.get(stored.job.id)
            if entry is None or entry.item is not stored.token:
                return False
            self._forget(entry)
            return True

    def keep_schedule(self, stored: StoredJob, job: Job) -> bool:
        with self._lock:
            entry = self._entries.get(job.id)
            if entry is None or entry.item is not stored.token:
                return False
            entry.job = job
            return True

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        now, limit = request.now, request.limit
        timestamp = now.timestamp()
        with self._lock:
            ledger = self._ledger
            ledger.complete(request.completions)
            claims = ledger.claim_ready(request)
            left: list[_Item] = []
            # Jobs with a backlog that is claimed in parts: one part at a time.
            in_parts: set[str] = set()
            try:
                while len(claims) < limit:
                    item = self._pop_due(timestamp)
                    if item is None:
                        break
                    left.append(item)
                    entry = item[3]
                    if entry.job.id in in_parts:
                        continue
                    plan = request.plan(entry.job)
                    if plan is not None:
                        left.pop()
                        claims.append(self._carry_out(entry, plan, request))
                        if entry.timestamp is not None and entry.timestamp <= timestamp:
                            in_parts.add(entry.job.id)
                self._drop_stale()
                more = bool(self._heap) and self._heap[0][0] <= timestamp
                next_run_time = None if more else self._next_after(now)
            finally:
                for item in left:
                    heappush(self._heap, item)
        return ClaimBatch(claims, next_run_time, more, ledger.has_waiting)

    def _carry_out(self, entry: _Entry, plan: Plan, request: ClaimRequest) -> Claim:
        """Move the job on and note its runs."""
        job = entry.job
        claim = self._ledger.claim(job, plan, request, self._alias)
        if plan.next_run_time is None:
            self._forget(entry)
        else:
            job.next_run_time = plan.next_run_time
            self._place(entry)
        return claim

    def _find(self, job_id: str) -> _Entry:
        entry = self._entries.get(job_id)
        if entry is None:
            raise JobLookupError(job_id)
        return entry

    def _place(self, entry: _Entry) -> None:
        """Put the job where its next run time belongs; what it had in the heap before becomes stale."""
        next_run_time = entry.job.next_run_time
        if next_run_time is None:
            entry.timestamp = None
            entry.item = object()
            return
        timestamp = entry.timestamp = next_run_time.timestamp()
        item = (timestamp, entry.job.id, next(self._numbers), entry)
        entry.item = item
        heappush(self._heap, item)
        if len(self._heap) > 2 * len(self._entries) + MIN_STALE:
            self._heap = [item for item in self._heap if item[3].item is item]
            heapify(self._heap)

    def _forget(self, entry: _Entry) -> None:
        del self._entries[entry.job.id]
        entry.item = None

    def _drop_stale(self) -> None:
        heap = self._heap
        while heap and heap[0][3].item is not heap[0]:
            heappop(heap)

    def _pop_due(self, timestamp: float) -> _Item | None:
        """Take the earliest job off the heap if it is due."""
        heap = self._heap
        while heap and heap[0][0] <= timestamp:
            item = heappop(heap)
            if item[3].item is item:
                return item
        return None

    def _next_after(self, now: datetime) -> datetime | None:
        """Return when the first job that is not due becomes due, or a ready run available."""
        job_time = self._heap[0][3].job.next_run_time if self._heap else None
        ready_time = self._ledger.next_available(now)
        # As instants: of two times in one zone, Python compares the wall clocks.
        times = filter(None, (job_time, ready_time))
        return min(times, key=lambda time: time.timestamp(), default=None)
