"""Drives stores written for APScheduler 3 through the calls they know, with runs kept in memory."""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from apscheduler.jobstores.base import BaseJobStore, JobLookupError
from apscheduler.jobstores.contract import (
    Claim,
    ClaimBatch,
    ClaimRequest,
    NativeJobStore,
    StoredJob,
)
from apscheduler.jobstores.ledger import LedgerJobStore, RunLedger
from apscheduler.runs import Plan

if TYPE_CHECKING:
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler

# A store may claim that something is due and yet give no job for it: it is asked again after this time, not at once.
IDLE_RETRY = timedelta(seconds=1)

# Where so many jobs in a row cannot be moved on, it is not the jobs.
MAX_FAILURES = 3

# A subclass of a native store that overrides one of these wants to be asked in the way of APScheduler 3.
LEGACY_METHODS = (
    "get_due_jobs",
    "get_next_run_time",
    "lookup_job",
    "remove_job",
    "update_job",
)


def native_store(store: BaseJobStore) -> NativeJobStore:
    """Return the store itself if its native contract holds, else an adapter around it."""
    if isinstance(store, NativeJobStore) and not _is_overridden(store):
        return store
    return LegacyStoreAdapter(store)


def _is_overridden(store: NativeJobStore) -> bool:
    """Whether a method of APScheduler 3 was replaced after the class that implements claiming."""
    if any(name in vars(store) for name in LEGACY_METHODS):
        return True
    lineage = type(store).__mro__
    owner = next(cls for cls in lineage if "claim" in vars(cls))
    derived = lineage[: lineage.index(owner)]
    return any(name in vars(cls) for cls in derived for name in LEGACY_METHODS)


class LegacyStoreAdapter(LedgerJobStore):
    """Makes a store of APScheduler 3 answer to the native contract, for one scheduler.

    Such a store needs no locking of its own: every call is made with the lock of this adapter held.
    """

    shareable = False  # its records carry nothing to compare a claim with
    keeps_runs = False  # and it has no place for runs

    def __init__(self, store: BaseJobStore):
        self.store = store
        self._lock = threading.RLock()
        self._ledger = RunLedger()
        # By job: what a change is compared with. Entries are made when a job is read, and go when it is written.
        self._tokens: dict[str, int] = {}
        self._numbers = count()

    def start(self, scheduler: "BaseScheduler | None", alias: str) -> None:
        super().start(scheduler, alias)
        with self._lock:
            self.store.start(scheduler, alias)

    def shutdown(self) -> None:
        with self._lock:
            self.store.shutdown()
            self._ledger.forget_all()

    def lookup_job(self, job_id: str) -> "Job | None":
        with self._lock:
            return self.store.lookup_job(job_id)

    def get_due_jobs(self, now: datetime) -> "list[Job]":
        with self._lock:
            return self.store.get_due_jobs(now)

    def get_next_run_time(self) -> datetime | None:
        with self._lock:
            return self.store.get_next_run_time()

    def get_all_jobs(self) -> "list[Job]":
        with self._lock:
            return self.store.get_all_jobs()

    def add_job(self, job: "Job") -> None:
        with self._lock:
            self.store.add_job(job)

    def update_job(self, job: "Job") -> None:
        with self._lock:
            self._tokens.pop(job.id, None)
            self.store.update_job(job)

    def remove_job(self, job_id: str) -> None:
        with self._lock:
            self._tokens.pop(job_id, None)
            self.store.remove_job(job_id)

    def remove_all_jobs(self) -> None:
        with self._lock:
            self._tokens.clear()
            self.store.remove_all_jobs()

    def add_jobs(self, jobs: "Sequence[Job]") -> None:
        with self._lock:
            added = []
            try:
                for job in jobs:
                    self.store.add_job(job)
                    added.append(job.id)
            except BaseException:
                for job_id in added:
                    self.store.remove_job(job_id)
                raise

    def read_job(self, job_id: str) -> StoredJob | None:
        with self._lock:
            job = self.store.lookup_job(job_id)
            if job is None:
                return None
            token = self._tokens.get(job_id)
            if token is None:
                token = self._tokens[job_id] = next(self._numbers)
            return StoredJob(job, token)

    def change_job(self, stored: StoredJob, changes: Mapping[str, Any]) -> bool:
        with self._lock:
            if self._is_outdated(stored):
                return False
            stored.job._modify(**changes)
            self.update_job(stored.job)
        return True

    def discard_job(self, stored: StoredJob) -> bool:
        with self._lock:
            if self._is_outdated(stored):
                return False
            self.remove_job(stored.job.id)
        return True

    def keep_schedule(self, stored: StoredJob, job: "Job") -> bool:
        with self._lock:
            if self._is_outdated(stored):
                return False
            self.update_job(job)
        return True

    def _is_outdated(self, stored: StoredJob) -> bool:
        # A scheduler that looks jobs up in its own way knows no token.
        token = stored.token
        return isinstance(token, int) and self._tokens.get(stored.job.id) != token

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        with self._lock:
            self._ledger.complete(request.completions)
            batch = ClaimBatch(self._ledger.claim_ready(request))
            batch.waiting = self._ledger.has_waiting
            scheduler = self._scheduler
            assert scheduler is not None
            try:
                due = self.store.get_due_jobs(
                    request.now.astimezone(scheduler.timezone)
                )
                self._claim_due(due, request, batch)
                batch.next_run_time = self._next_after(request.now)
            except Exception:
                if not batch.claims:
                    raise
                # What was claimed must run. The store is asked again after that, and the failure is seen then.
                batch.more = True
            return batch

    def _claim_due(
        self, due: "Sequence[Job]", request: ClaimRequest, batch: ClaimBatch
    ) -> None:
        """Claim due jobs; one that cannot be moved on does not hold up the others.

        :raises Exception: what the store has raised, in the end
        """
        failures: list[Exception] = []
        for job in due:
            if len(batch.claims) >= request.limit:
                batch.more = True
                break
            plan = request.plan(job)
            if plan is None:
                continue
            try:
                claim = self._carry_out(job, plan, request)
            except Exception as exc:  # raised below
                failures.append(exc)
                if len(failures) == MAX_FAILURES:
                    break
                continue
            if claim is not None:
                batch.claims.append(claim)
        if failures:
            raise failures[0]

    def _carry_out(self, job: "Job", plan: Plan, request: ClaimRequest) -> Claim | None:
        """Move the job on; None if it has gone meanwhile."""
        assert self._scheduler is not None and self._alias is not None
        before = job.next_run_time
        try:
            if plan.next_run_time is None:
                self._scheduler.remove_job(job.id, self._alias)
            else:
                job._modify(next_run_time=plan.next_run_time)
                self.update_job(job)
        except JobLookupError:
            return None
        except Exception:
            job.next_run_time = before  # the store may hold this very object
            raise
        claim = self._ledger.claim(job, plan, request, self._alias, limited=False)
        claim.announced = plan.next_run_time is None
        return claim

    def _next_after(self, now: datetime) -> datetime | None:
        """Return when there is something to do after ``now``, never ``now`` itself."""
        ready_time = self._ledger.next_available(now)
        next_run_time = self.store.get_next_run_time()
        if next_run_time is not None and next_run_time <= now:
            # What is still due was left, or cannot be restored: look for the first after that.
            later = (job.next_run_time for job in self.store.get_all_jobs())
            times = [time for time in later if time is not None and time > now]
            next_run_time = _earliest(*times, now + IDLE_RETRY)
        return _earliest(next_run_time, ready_time)

    def __repr__(self) -> str:
        return repr(self.store)


def _earliest(*times: datetime | None) -> datetime | None:
    """Return the earliest as an instant: of two times in one zone, Python compares the wall clocks."""
    return min(filter(None, times), key=lambda time: time.timestamp(), default=None)
