"""Jobs in the memory of the process: a heap of run times and a dict of jobs."""

import math
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from heapq import heapify, heappop, heappush
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


# The time of a paused job: later than any other.
PAUSED = math.inf

# A job, and where it stands in the order of (time, id); those of one id are equal, too. Also its token: every write of
# its run time makes another one.
_Item = tuple[float, str, Job]


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
        self._items: dict[str, _Item] = {}
        # Those of jobs that are not paused; items that were replaced stay until they come up or are too many.
        self._heap: list[_Item] = []
        self._ledger = RunLedger()
        self._lock = threading.RLock()

    @property
    def _jobs(self) -> list[tuple[Job, float | None]]:
        """The jobs and their timestamps in order, as subclasses written for APScheduler 3 read them."""
        return [
            (job, None if timestamp == PAUSED else timestamp)
            for timestamp, _, job in self._in_order()
        ]

    @property
    def _jobs_index(self) -> dict[str, tuple[Job, float | None]]:
        """The same pairs by job id."""
        return {pair[0].id: pair for pair in self._jobs}

    def _in_order(self) -> list[_Item]:
        with self._lock:
            items = list(self._items.values())
        return sorted(items)

    def lookup_job(self, job_id: str) -> Job | None:
        item = self._items.get(job_id)
        return None if item is None else item[2]

    def get_due_jobs(self, now: datetime) -> list[Job]:
        limit = now.timestamp()
        return [item[2] for item in self._in_order() if item[0] <= limit]

    def get_next_run_time(self) -> datetime | None:
        with self._lock:
            self._drop_stale()
            return self._heap[0][2].next_run_time if self._heap else None

    def get_all_jobs(self) -> list[Job]:
        return [item[2] for item in self._in_order()]

    def add_job(self, job: Job) -> None:
        with self._lock:
            if job.id in self._items:
                raise ConflictingIdError(job.id)
            self._place(job)

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        with self._lock:
            seen = set()
            for job in jobs:
                if job.id in self._items or job.id in seen:
                    raise ConflictingIdError(job.id)
                seen.add(job.id)
            for job in jobs:
                self.add_job(job)

    def update_job(self, job: Job) -> None:
        with self._lock:
            if job.id not in self._items:
                raise JobLookupError(job.id)
            self._place(job)

    def remove_job(self, job_id: str) -> None:
        with self._lock:
            if self._items.pop(job_id, None) is None:
                raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        with self._lock:
            self._items.clear()
            self._heap.clear()

    def shutdown(self) -> None:
        self.remove_all_jobs()
        with self._lock:
            self._ledger.forget_all()

    def read_job(self, job_id: str) -> StoredJob | None:
        item = self._items.get(job_id)
        return None if item is None else StoredJob(item[2], item)

    def change_job(self, stored: StoredJob, changes: Mapping[str, Any]) -> bool:
        job = stored.job
        with self._lock:
            item = self._items.get(job.id)
            if item is None or item[2] is not job:
                return False
            if "next_run_time" in changes and item is not stored.token:
                return False
            job._modify(**changes)
            if "next_run_time" in changes:
                self._place(job)
            return True

    def discard_job(self, stored: StoredJob) -> bool:
        with self._lock:
            item = self._items.get(stored.job.id)
            if item is None or item is not stored.token:
                return False
            del self._items[stored.job.id]
            return True

    def keep_schedule(self, stored: StoredJob, job: Job) -> bool:
        with self._lock:
            item = self._items.get(job.id)
            if item is None or item is not stored.token:
                return False
            self._place(job)
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
                    job = item[2]
                    if job.id in in_parts:
                        continue
                    plan = request.plan(job)
                    if plan is not None:
                        left.pop()
                        claims.append(self._carry_out(job, plan, request))
                        following = self._items.get(job.id)
                        if following is not None and following[0] <= timestamp:
                            in_parts.add(job.id)
                self._drop_stale()
                more = bool(self._heap) and self._heap[0][0] <= timestamp
                next_run_time = None if more else self._next_after(now)
            finally:
                for item in left:
                    heappush(self._heap, item)
        return ClaimBatch(claims, next_run_time, more, ledger.has_waiting)

    def _carry_out(self, job: Job, plan: Plan, request: ClaimRequest) -> Claim:
        """Move the job on and note its runs."""
        claim = self._ledger.claim(job, plan, request, self._alias)
        if plan.next_run_time is None:
            del self._items[job.id]
        else:
            job.next_run_time = plan.next_run_time
            self._place(job)
        return claim

    def _place(self, job: Job) -> None:
        """Put the job where its next run time belongs; what it had in the heap before becomes stale."""
        next_run_time = job.next_run_time
        timestamp = PAUSED if next_run_time is None else next_run_time.timestamp()
        item = timestamp, job.id, job
        self._items[job.id] = item
        if timestamp == PAUSED:
            return
        heappush(self._heap, item)
        if len(self._heap) > 2 * len(self._items) + MIN_STALE:
            self._heap = list(filter(self._is_live, self._heap))
            heapify(self._heap)

    def _is_live(self, item: _Item) -> bool:
        """Return whether an item of the heap says where its job stands now."""
        return self._items.get(item[1]) is item

    def _drop_stale(self) -> None:
        heap = self._heap
        while heap and not self._is_live(heap[0]):
            heappop(heap)

    def _pop_due(self, timestamp: float) -> _Item | None:
        """Take the earliest job off the heap if it is due."""
        heap = self._heap
        while heap and heap[0][0] <= timestamp:
            item = heappop(heap)
            if self._is_live(item):
                return item
        return None

    def _next_after(self, now: datetime) -> datetime | None:
        """Return when the first job that is not due becomes due, or a ready run available."""
        job_time = self._heap[0][2].next_run_time if self._heap else None
        ready_time = self._ledger.next_available(now)
        # As instants: of two times in one zone, Python compares the wall clocks.
        times = filter(None, (job_time, ready_time))
        return min(times, key=lambda time: time.timestamp(), default=None)
