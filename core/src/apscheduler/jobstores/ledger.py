"""Runs kept in memory, for stores that have no place of their own for them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from apscheduler.jobstores.contract import (
    Claim,
    ClaimRequest,
    NativeJobStore,
    idle_runs,
)
from apscheduler.records import replace
from apscheduler.runs import Completion, Plan, Run, RunFilter, RunState, RunTimes

if TYPE_CHECKING:
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler

# Finished runs of all jobs together: what a process can afford to remember.
MAX_FINISHED_RUNS = 10_000


class RunLedger:
    """Open, ready and finished runs. Its owner sees to it that only one thread at a time uses it."""

    def __init__(self) -> None:
        # By the identifiers of the runs; records are only made for those who ask.
        self._open: dict[str, Claim] = {}
        # How many claims of a job are open; and how many runs of a claim, where it has several.
        self._open_claims: dict[str, int] = {}
        self._open_parts: dict[str, int] = {}
        self._ready: list[tuple[datetime, int, Job, Run]] = []
        self._ready_numbers = count()
        # Whether the last claim has left ready runs because of instances that are running.
        self.has_waiting = False
        # How many finished runs are kept of jobs that say so.
        self._limits: dict[str, int] = {}
        self._finished: deque[tuple[Completion, datetime, str] | Run] = deque(
            maxlen=MAX_FINISHED_RUNS
        )

    def count_claims(self, job_id: str) -> int:
        """Return how many claims of the job have runs that are still open."""
        return self._open_claims.get(job_id, 0)

    def claim(
        self,
        job: "Job",
        plan: Plan,
        request: ClaimRequest,
        alias: str | None,
        limited: bool = True,
    ) -> Claim:
        """Note what a plan starts and what it does not, and return the claim.

        :param limited: whether ``max_instances`` is counted here, rather than by the executor
        """
        identity, now = request.identity, request.now
        if job.history is not None:
            self._limits[job.id] = job.history
        elif self._limits:
            self._limits.pop(job.id, None)
        skipped = limited and self.count_claims(job.id) >= job.max_instances
        is_idle = skipped or plan.missed is not None or plan.coalesced is not None
        if is_idle and request.keeps_history_of(job):
            self._finished.extend(idle_runs(job, plan, skipped, alias, identity, now))
        if skipped or not plan.run_times:
            return Claim(job, plan, RunTimes(), skipped and bool(plan.run_times))
        times = plan.run_times
        if len(times) == 1:
            run_ids: tuple[str, ...] = (identity.new_id(),)
        else:
            run_ids = tuple([identity.new_id() for _ in times])
        claim = Claim(job, plan, RunTimes(times, run_ids, run_ids[0]))
        self._start(claim, identity.node.id)
        return claim

    def claim_ready(self, request: ClaimRequest) -> list[Claim]:
        """Claim ready runs that are available, unless too many of their job are running."""
        identity, now = request.identity, request.now
        claims: list[Claim] = []
        waiting = []
        self.has_waiting = False
        while self._ready and self._ready[0][0] <= now and len(claims) < request.limit:
            entry = heappop(self._ready)
            _, _, job, run = entry
            full = self.count_claims(job.id) >= job.max_instances
            if full or not request.accepts(job):
                self.has_waiting |= full
                waiting.append(entry)
                continue
            run_times = RunTimes([run.scheduled_time], (run.id,), run.id, run.attempt)
            plan = Plan([run.scheduled_time], job.next_run_time)
            claim = Claim(job, plan, run_times, ready=True)
            self._start(claim, identity.node.id)
            claims.append(claim)
        for entry in waiting:
            heappush(self._ready, entry)
        return claims

    def _start(self, claim: Claim, node: str) -> None:
        claim.node = node
        job_id, times = claim.job.id, claim.run_times
        for run_id in times.run_ids:
            self._open[run_id] = claim
        self._open_claims[job_id] = self._open_claims.get(job_id, 0) + 1
        if len(times) > 1:
            assert times.claim_id is not None
            self._open_parts[times.claim_id] = len(times)

    def complete(self, completions: Iterable[Completion]) -> None:
        """Close the runs, if the one who says so owns them."""
        for completion in completions:
            claim = self._open.get(completion.run_id)
            if claim is None or completion.node != claim.node:
                continue
            times = claim.run_times
            if completion.attempt != times.attempt:
                continue
            self._close(completion.run_id)
            if completion.keep:
                run_time = claim.time_of(completion.run_id)
                self._finished.append((completion, run_time, times.claim_id or ""))

    def _close(self, run_id: str) -> None:
        claim = self._open.pop(run_id)
        job_id, times = claim.job.id, claim.run_times
        if len(times) > 1:
            assert times.claim_id is not None
            self._open_parts[times.claim_id] -= 1
            if self._open_parts[times.claim_id]:
                return
            del self._open_parts[times.claim_id]
        self._open_claims[job_id] -= 1
        if not self._open_claims[job_id]:
            del self._open_claims[job_id]

    def add_ready(self, job: "Job", run: Run) -> None:
        """Keep a run until it is available and claimed."""
        available_at = run.available_at or run.scheduled_time
        heappush(self._ready, (available_at, next(self._ready_numbers), job, run))

    def hand_back(self, claims: Iterable[Claim], alias: str | None) -> None:
        """Turn claimed runs into ready ones."""
        for claim in claims:
            times = claim.run_times
            for run_time, run_id in zip(times, times.run_ids, strict=True):
                if run_id in self._open:
                    self._close(run_id)
                    run = Run(run_id, claim.job.id, alias, RunState.READY, run_time)
                    run.attempt = times.attempt
                    self.add_ready(claim.job, run)

    def next_available(self, now: datetime) -> datetime | None:
        """Return when the next ready run becomes available, of those that are not."""
        times = [entry[0] for entry in self._ready if entry[0] > now]
        return min(times, default=None)

    def get_runs(
        self, which: RunFilter, limit: int, offset: int, alias: str | None
    ) -> list[Run]:
        """Return runs that match, latest scheduled time first."""
        runs = [run for run in self._all(alias) if matches(run, which)]
        # As instants: with one zone on both sides Python compares wall clocks.
        runs.sort(key=lambda r: (r.scheduled_time.timestamp(), r.id), reverse=True)
        return list(islice(runs, offset, offset + limit))

    def _all(self, alias: str | None) -> Iterator[Run]:
        for _, _, _, run in self._ready:
            yield replace(run, jobstore=alias)
        for run_id, claim in reversed(self._open.items()):
            times, run_time = claim.run_times, claim.time_of(run_id)
            run = Run(run_id, claim.job.id, alias, RunState.RUNNING, run_time)
            run.claim_id, run.node = times.claim_id, claim.node
            run.attempt = times.attempt
            yield run
        for finished in reversed(self._finished):
            if isinstance(finished, Run):
                yield replace(finished, jobstore=alias)
            else:
                yield finished_run(*finished, alias)

    def prune(
        self, max_age: timedelta | None, max_per_job: int | None, now: datetime
    ) -> int:
        """Forget finished runs that are too old or too many of their job; return how many."""
        kept: list[tuple[Completion, datetime, str] | Run] = []
        seen: dict[str, int] = {}
        for finished in reversed(self._finished):
            record = finished if isinstance(finished, Run) else finished[0]
            job_id = record.job_id
            number = seen[job_id] = seen.get(job_id, 0) + 1
            limit = self._limits.get(job_id, max_per_job)
            too_many = limit is not None and number > limit
            ended = record.finished_at or now
            if not too_many and (max_age is None or now - ended <= max_age):
                kept.append(finished)
        self._limits = {
            job_id: limit
            for job_id, limit in self._limits.items()
            if job_id in seen or job_id in self._open_claims
        }
        removed = len(self._finished) - len(kept)
        if removed:
            self._finished = deque(reversed(kept), maxlen=MAX_FINISHED_RUNS)
        return removed

    def forget_all(self) -> None:
        """Start anew."""
        self.__init__()  # type: ignore[misc]  # the same object is shared with its store


def finished_run(
    completion: Completion, run_time: datetime, claim_id: str, alias: str | None
) -> Run:
    """Return the record of a run from how it ended."""
    return Run(
        completion.run_id,
        completion.job_id,
        alias,
        completion.state,
        run_time,
        claim_id=claim_id,
        node=completion.node,
        attempt=completion.attempt,
        started_at=completion.started_at,
        finished_at=completion.finished_at,
        duration=completion.duration,
        exception=completion.exception,
        traceback=completion.traceback,
    )


class LedgerJobStore(NativeJobStore):
    """What stores that keep their runs in a ledger do about runs.

    :ivar _ledger: the ledger
    :ivar _lock: protects it, as whatever else the store keeps in memory
    """

    _ledger: RunLedger
    _lock: Any

    def start(self, scheduler: "BaseScheduler | None", alias: str) -> None:
        super().start(scheduler, alias)
        if (
            scheduler is not None
        ):  # it knows which locks are good for all its threads: they may be green
            self._lock = scheduler._create_lock()

    def complete(self, completions: Sequence[Completion]) -> None:
        with self._lock:
            self._ledger.complete(completions)

    def add_ready_run(self, job: "Job", run: Run) -> None:
        with self._lock:
            self._ledger.add_ready(job, run)

    def hand_back(self, claims: Sequence[Claim]) -> None:
        with self._lock:
            self._ledger.hand_back(claims, self._alias)

    def get_runs(self, which: RunFilter, limit: int, offset: int = 0) -> list[Run]:
        with self._lock:
            return self._ledger.get_runs(which, limit, offset, self._alias)

    def prune_runs(
        self, max_age: timedelta | None, max_per_job: int | None, now: datetime
    ) -> int:
        with self._lock:
            return self._ledger.prune(max_age, max_per_job, now)


def matches(run: Run, which: RunFilter) -> bool:
    """Return whether a run is among those asked for."""
    scheduled_time = run.scheduled_time.astimezone(UTC)
    return (
        (which.job_id is None or run.job_id == which.job_id)
        and (which.states is None or run.state in which.states)
        and (which.since is None or scheduled_time >= which.since)
        and (which.until is None or scheduled_time < which.until)
        and (which.run_id is None or run.id == which.run_id)
        and (which.node is None or run.node == which.node)
        and (which.attempt is None or run.attempt == which.attempt)
    )
