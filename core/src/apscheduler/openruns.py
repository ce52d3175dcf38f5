"""The runs of one store that go on in this process: noted before they start, and recorded when they have ended."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from apscheduler.completions import CompletionBuffer
from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MISSED,
    JobExecutionEvent,
)
from apscheduler.job import Job
from apscheduler.jobstores.contract import Claim, NativeJobStore, keeps_history
from apscheduler.runs import Completion, Plan, RunState, RunTimes

if TYPE_CHECKING:
    from apscheduler.executors.base import BaseExecutor
    from apscheduler.schedulers.base import BaseScheduler

# A run whose job fires again within this time must be recorded before, or it would count as still going on.
URGENT = timedelta(milliseconds=50)

STATES = {
    EVENT_JOB_EXECUTED: RunState.SUCCEEDED,
    EVENT_JOB_ERROR: RunState.FAILED,
    EVENT_JOB_MISSED: RunState.MISSED,
    EVENT_JOB_LOST: RunState.LOST,
}


class OpenRuns:
    """The runs that were claimed from a store and whose outcomes are awaited, and those on their way to the store.

    The way of a run: it is open, then its outcome is in the buffer, or it is among those that were kept from starting;
    only then it is open no more. Whoever looks in this order misses none.
    """

    def __init__(self, scheduler: "BaseScheduler", store: NativeJobStore):
        self._scheduler = scheduler
        self._store = store
        self.completions = CompletionBuffer(
            store, scheduler._logger, scheduler._create_lock
        )
        # By the identifiers of the runs.
        self._claims: dict[str, Claim] = {}
        # Runs that were kept from starting: handed back by the next pass, or when the store is closed.
        self._unstarted: list[Claim] = []

    def __bool__(self) -> bool:
        """Whether runs are going on."""
        return bool(self._claims)

    def leave_to_parent(self) -> None:
        """In a forked process: forget the runs of the parent."""
        self._claims, self._unstarted = {}, []

    # What is going on

    @property
    def are_owned(self) -> bool:
        """Whether others might miss this node: its runs go on, or the store does not know yet how they ended."""
        return bool(self._claims) or self.completions.has_pending

    @property
    def has_unstarted(self) -> bool:
        """Whether runs that were kept from starting have not been handed back."""
        return bool(self._unstarted)

    def ids(self) -> set[str]:
        """Return the runs that go on here, or whose outcomes are not in the buffer yet."""
        found = {*list(self._claims)}
        return found.union(*(each.run_times.run_ids for each in self._unstarted))

    def has_any_of(self, job_id: str) -> bool:
        """Return whether runs of this job are going on here."""
        return any(claim.job.id == job_id for claim in list(self._claims.values()))

    def has_unsettled_of(self, job_id: str) -> bool:
        """Return whether the store counts runs of this job, which go on here or whose outcomes it does not have yet.

        To be asked during a claim.
        """
        return self.has_any_of(job_id) or self.completions.has_pending_of(job_id)

    def has_besides(self, run_ids: frozenset[str]) -> bool:
        """Return whether runs are going on, other than these."""
        claims = self._claims
        return len(claims) > len(run_ids) or bool(claims.keys() - run_ids)

    def find_submission(
        self, job_id: str, executor: "BaseExecutor"
    ) -> tuple[Job, RunTimes] | None:
        """Return the oldest runs of a job that an executor was handed and has not reported."""
        for claim in list(self._claims.values()):
            job, times = claim.job, claim.run_times
            if job.id == job_id and claim.executor is executor:
                left = [
                    index
                    for index, run_id in enumerate(times.run_ids)
                    if run_id in self._claims
                ]
                return job, RunTimes(
                    [times[index] for index in left],
                    tuple(times.run_ids[index] for index in left),
                    times.claim_id,
                    times.attempt,
                )
        return None

    # The beginning

    def expect(
        self,
        claim: Claim,
        node: str,
        offset: timedelta,
        may_start: Callable[[], bool] | None,
    ) -> None:
        """Note runs before they start: they may end before the executor returns."""
        claim.node = node
        times = claim.run_times
        times.clock_offset = offset
        times.is_ready, times.may_start = claim.ready, may_start
        for run_id in times.run_ids:
            self._claims[run_id] = claim

    def keep_from_starting(self, claims: Sequence[Claim]) -> None:
        """Note that runs which were claimed are not started: others may."""
        self._unstarted += [claim for claim in claims if claim.run_times]

    def abandon(self, run_times: RunTimes) -> None:
        """Forget runs of which nobody knows whether an executor has them: who takes over from this node decides."""
        for run_id in run_times.run_ids:
            self._claims.pop(run_id, None)

    # The end

    def find(self, event: JobExecutionEvent) -> tuple[str, Claim] | None:
        """Return the run that an event is about, and its claim; None if it is none of these, or was told before."""
        run_id = event.run_id
        if run_id is not None:
            claim = self._claims.get(run_id)
            return None if claim is None else (run_id, claim)
        # By job and run time: some executors drop the identity of a run.
        for run_id, claim in list(self._claims.items()):
            if (
                claim.job.id == event.job_id
                and claim.time_of(run_id) == event.scheduled_run_time
            ):
                return run_id, claim
        return None

    def settle(
        self, run_id: str, claim: Claim, event: JobExecutionEvent
    ) -> Completion | None:
        """Have it recorded how a run ended; None: it did not begin, and is to be handed back."""
        try:
            if event.code == EVENT_JOB_LOST and self._has_not_begun(event, claim):
                self._unstarted.append(_claim_again(run_id, claim))
                return None
            now, exc = self._scheduler._clock.now(), event.exception
            completion = Completion(
                run_id,
                event.job_id,
                claim.node,
                claim.run_times.attempt,
                STATES.get(event.code) or RunState.FAILED,
                now,
                event.started_at,
                event.duration,
                None if exc is None else _describe(exc),
                event.traceback,
                keeps_history(claim.job, self._store.history_runs != 0),
            )
            self.completions.add(
                completion, self._store.performs_io and _fires_again_soon(claim, now)
            )
            return completion
        finally:
            self._claims.pop(run_id, None)

    def _has_not_begun(self, event: JobExecutionEvent, claim: Claim) -> bool:
        """Whether an executor gave the run up before it began: at shutdown, or since others may have taken it over."""
        if event.started_at is not None or not self._store.keeps_runs:
            return False
        may_start = claim.run_times.may_start
        is_ending = self._scheduler._engine.is_ending
        return is_ending or (may_start is not None and not may_start())

    def forget(self, run_times: RunTimes, state: RunState, exc: Exception) -> None:
        """Record runs that were claimed and could not be handed to their executor."""
        now = self._scheduler._clock.now()
        for run_id in run_times.run_ids:
            claim = self._claims.get(run_id)
            if claim is not None:
                self.completions.add(
                    Completion(
                        run_id,
                        claim.job.id,
                        claim.node,
                        claim.run_times.attempt,
                        state,
                        now,
                        exception=_describe(exc),
                        keep=keeps_history(claim.job, self._store.history_runs != 0),
                    )
                )
                self._claims.pop(run_id, None)

    def settle_accounts(self) -> None:
        """Write what has ended, and hand back what did not begin.

        :raises Exception: whatever the store raises; nothing is forgotten
        """
        self.completions.flush()
        self.hand_back_unstarted()

    def hand_back_unstarted(self) -> None:
        """Hand back what did not begin.

        :raises Exception: whatever the store raises; nothing is forgotten
        """
        unstarted, self._unstarted = self._unstarted, []
        if unstarted:
            try:
                self._store.hand_back(unstarted)
            except BaseException:
                self._unstarted += unstarted
                raise


def _fires_again_soon(claim: Claim, now: datetime) -> bool:
    again = claim.plan.next_run_time
    return again is not None and type(claim.job) is Job and again < now + URGENT


def _claim_again(run_id: str, claim: Claim) -> Claim:
    """Return the claim of a single run, as a store takes it back."""
    run_time, times = claim.time_of(run_id), claim.run_times
    run_times = RunTimes([run_time], (run_id,), times.claim_id, times.attempt)
    return Claim(
        claim.job,
        Plan([run_time], claim.plan.next_run_time),
        run_times,
        node=claim.node,
    )


def _describe(exc: BaseException) -> str:
    name = type(exc).__name__
    try:
        return f"{name}: {exc}"
    except Exception:  # the user's code
        return f"{name}, which cannot be shown as text"
