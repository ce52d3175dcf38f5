"""What a scheduler does with one store in a pass: ask, plan, claim, dispatch, complete."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from apscheduler.completions import CompletionBuffer
from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MISSED,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
    JobExecutionEvent,
    JobstoreFailureEvent,
    SchedulerEvent,
)
from apscheduler.executors.base import BaseExecutor
from apscheduler.housekeeping import LONG_AGO, Housekeeper
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.jobstores.contract import (
    Claim,
    ClaimBatch,
    ClaimRequest,
    NativeJobStore,
    keeps_history,
)
from apscheduler.leases import NEVER, LeaseKeeper
from apscheduler.runs import Completion, Plan, RunState, RunTimes
from apscheduler.selection import Selection
from apscheduler.timekeeping import ServerClock

if TYPE_CHECKING:
    from apscheduler.engine import Engine

# A run whose job fires again within this time must be recorded before, or it would count as still going on.
URGENT = timedelta(milliseconds=50)

STATES = {
    EVENT_JOB_EXECUTED: RunState.SUCCEEDED,
    EVENT_JOB_MISSED: RunState.MISSED,
    EVENT_JOB_LOST: RunState.LOST,
}


class _OpenRun(NamedTuple):
    """A run that was claimed and whose outcome is awaited."""

    job: Job
    run_times: RunTimes
    run_time: datetime
    node: str
    fires_again: datetime | None


class StoreDriver:
    """One store as the engine sees it."""

    def __init__(
        self,
        engine: "Engine",
        alias: str,
        raw_store: BaseJobStore,
        store: NativeJobStore,
    ):
        self.engine = engine
        self.scheduler = engine.scheduler
        self.alias = alias
        self.raw_store = raw_store
        self.store = store
        self.completions = CompletionBuffer(
            store, self.scheduler._logger, self.scheduler._create_lock
        )
        self.lease: LeaseKeeper | None = None
        # The term of the lease in which what was claimed last may be started.
        self._term = NEVER
        self.is_closing = False
        self._open: dict[str, _OpenRun] = {}
        # Runs that have ended and whose outcomes are not in the buffer yet, and their jobs.
        self._ending: dict[str, str] = {}
        self.selection = Selection(self)
        self.housekeeper = Housekeeper(self)
        # Whether ready runs wait for a run of their job to end: its outcome wakes the loop.
        self._has_waiting = False
        # Whether what was claimed is being handed out: those runs are not among the open ones yet.
        self._is_dispatching = False
        self.is_removed = False
        # The thread that makes a pass while it is in the store, where it may hold locks.
        self.thread_in_store: int | None = None
        # Runs that were kept from starting: handed back by the next pass, or when the store is closed.
        self._unstarted: list[Claim] = []
        self._retry_store_at: datetime | None = None
        self._end_subscription: Callable[[], None] | None = None
        if store is not raw_store:
            # An adapter is linked, also to a store that is already at work.
            store._scheduler, store._alias = self.scheduler, alias

    def start(self) -> None:
        """Start the store."""
        if self.is_closing:  # runs of the last time are still going on: their outcomes are recorded one by one
            self.is_closing = False
            self._settle_accounts()
            self.store.shutdown()
        self.store.start(self.scheduler, self.alias)
        self._compare_clocks()
        self.selection.release_holds()
        self.housekeeper.start(self.scheduler._clock.now())
        if self.store.shareable and self.store.keeps_runs:
            self.lease = LeaseKeeper(
                self.store,
                self.engine.identity.node,
                self.scheduler._clock.now,
                self._owns_runs,
                self.scheduler._logger,
                self.scheduler._threads,
            )
        if self.store.pushes_changes:
            self._subscribe()

    def _compare_clocks(self) -> bool:
        """Have the scheduler live by the time of the server, unless it was given a clock; return whether it looked."""
        clock = self.scheduler._clock
        if not isinstance(clock, ServerClock):
            return False
        return clock.follow(self.store, self.alias, self.scheduler._logger)

    def leave_to_parent(self) -> None:
        """In a forked process: forget the runs and the lease of the parent."""
        self._open, self._unstarted, self.lease = {}, [], None
        self._end_subscription = None

    def _subscribe(self) -> None:
        try:
            self._end_subscription = self.store.subscribe(self._hear_of_change)
        except Exception as exc:  # what it would have told is found by looking
            self.scheduler._logger.warning(
                "Job store %r does not tell of changes, and is polled only: %s",
                self.alias,
                exc,
            )

    def unsubscribe(self) -> None:
        """Hear of no more changes by others."""
        end, self._end_subscription = self._end_subscription, None
        if end is None:
            return
        try:
            end()
        except Exception:
            self.scheduler._logger.exception(
                "Error ending the subscription to job store %r", self.alias
            )

    def _hear_of_change(self) -> None:
        """Look at once, also at a store that had failed: who tells of changes is there again."""
        if self._retry_store_at is not None:
            self._retry_store_at = LONG_AGO
        self.scheduler.wakeup()

    def close(self) -> None:
        """Shut the store down; where runs are still going on, after the last of them."""
        self.unsubscribe()
        if self._open and self.store.keeps_runs:
            self.is_closing = True
            return
        self.is_closing = False
        try:
            self._settle_accounts()
        finally:
            if self.lease is not None:
                self.lease.release()
            self.store.shutdown()
            clock = self.scheduler._clock
            if isinstance(clock, ServerClock):
                clock.stop_following(self.store)

    def _settle_accounts(self) -> None:
        self.completions.flush()
        self._hand_back_unstarted()

    def _hand_back_unstarted(self) -> None:
        unstarted, self._unstarted = self._unstarted, []
        if unstarted:
            try:
                self.store.hand_back(unstarted)
            except BaseException:
                self._unstarted += unstarted
                raise

    def hand_back_with_program(self) -> None:
        """Hand back what has not begun, since the program ends."""
        try:
            self._hand_back_unstarted()
        except Exception as exc:
            self.scheduler._logger.warning(
                "Runs that have not begun could not be handed back to job store %r, and will be called lost: %s",
                self.alias,
                exc,
            )

    def _owns_runs(self) -> bool:
        """Whether others might miss this node: its runs go on, or the store does not know yet how they ended."""
        return bool(self._open) or self._is_dispatching or self.completions.has_pending

    def find_unsettled_runs(self) -> set[str]:
        """Return the runs that go on here, or whose outcomes are not in the buffer yet."""
        # In the order in which a run makes its way.
        found = {*list(self._open), *list(self._ending)}
        return found.union(*(each.run_times.run_ids for each in self._unstarted))

    def has_open_runs(self, job_id: str) -> bool:
        """Return whether runs of this job are going on here."""
        return any(run.job.id == job_id for run in list(self._open.values()))

    def has_unsettled_runs(self, job_id: str) -> bool:
        """Return whether the store counts runs of this job, which go on here or whose outcomes it does not have yet.

        To be asked during a claim. The order is that in which an outcome makes its way.
        """
        return (
            self.has_open_runs(job_id)
            or job_id in list(self._ending.values())
            or self.completions.has_pending_of(job_id)
        )

    def has_runs_besides(self, run_ids: frozenset[str]) -> bool:
        """Return whether runs of this store are going on, other than these."""
        opened = self._open
        return len(opened) > len(run_ids) or bool(opened.keys() - run_ids)

    @property
    def is_failing(self) -> bool:
        """Whether the last pass has failed."""
        return self._retry_store_at is not None

    @property
    def is_busy(self) -> bool:
        """Whether runs of this store are going on."""
        return bool(self._open)

    def run_pass(self, now: datetime) -> tuple[datetime | None, list[SchedulerEvent]]:
        """Make a pass over this store; whatever it raises delays only this store.

        :return: when the next pass is due, None if only a wakeup can tell; and the events to dispatch then
        """
        scheduler = self.scheduler
        pause = timedelta(seconds=scheduler.jobstore_retry_interval)
        if self._retry_store_at is not None and (
            now < self._retry_store_at <= now + pause
        ):
            return self._retry_store_at, []
        events: list[SchedulerEvent] = []
        self.housekeeper.begin()
        try:
            wakeup = self._run_rounds(now, events)
        except Exception as exc:
            scheduler._logger.warning(
                "Error getting due jobs from job store %r: %s", self.alias, exc
            )
            if self._retry_store_at is None:
                events.append(
                    JobstoreFailureEvent(EVENT_JOBSTORE_FAILED, self.alias, exc)
                )
            self._retry_store_at = now + pause
            return self._retry_store_at, events
        self.housekeeper.note_answer(scheduler._clock.now())
        if self._retry_store_at is not None:
            self._retry_store_at = None
            scheduler._logger.info("Job store %r answers again", self.alias)
            events.append(SchedulerEvent(EVENT_JOBSTORE_RECOVERED, self.alias))
        return wakeup, events

    def _run_rounds(
        self, now: datetime, events: list[SchedulerEvent]
    ) -> datetime | None:
        """Claim and dispatch until nothing more is due, or nothing more can be started."""
        if self._compare_clocks():
            now = self.scheduler._clock.now()
        if self._unstarted:
            self._settle_accounts()
        self.housekeeper.keep(now)
        for _ in range(self.scheduler._steps_per_pass):
            limit = self.selection.look_for_capacity()
            if not limit:
                return self._poll_time(now)  # a slot that becomes free wakes the loop
            batch, may_go_on = self._claim_and_dispatch(now, limit, events)
            if not may_go_on:
                return self._earliest(batch.next_run_time, now)
            now = self.scheduler._clock.now()
        return now

    def _claim_and_dispatch(
        self, now: datetime, limit: int, events: list[SchedulerEvent]
    ) -> tuple[ClaimBatch, bool]:
        """Make one step, and return what was claimed and whether another step is worth while."""
        self._is_dispatching = True
        try:
            batch, has_ended = self._claim(now, limit)
            self._dispatch(batch.claims, events)
            if any(claim.skipped for claim in batch.claims):
                self.housekeeper.look_soon(now)
        finally:
            self._is_dispatching = False
        return batch, (
            batch.more and bool(batch.claims)
        ) or self.selection.has_rest or has_ended

    def _claim(self, now: datetime, limit: int) -> tuple[ClaimBatch, bool]:
        """Take what is due, and with it the lease on what that starts.

        :return: what was claimed, and whether a run has ended meanwhile for which ready runs wait
        """
        lease, held_until = self.lease, None
        self.selection.begin(now)
        with self.completions.writing:
            request = self._make_request(now, limit)
            if lease is not None:
                request.lease_until, held_until = lease.next_expiry()
            self.thread_in_store = self.scheduler._get_ident()
            self.housekeeper.begin()
            try:
                batch = self.store.claim(request)
            except BaseException:
                self.completions.give_back(list(request.completions))
                self.housekeeper.note_failed_claim(self.selection.accepted)
                raise
            finally:
                self.thread_in_store = None
            self.housekeeper.note_answer(self.scheduler._clock.now())
            # In this order: an outcome from here on wakes the loop, and one from before is still there to be seen.
            self._has_waiting = batch.waiting
            has_ended = batch.waiting and self.completions.has_pending
        self.selection.tell()
        starts_runs = lease is not None and any(c.run_times for c in batch.claims)
        if lease is not None and held_until is not None and starts_runs:
            self._term = lease.granted(held_until)
        return batch, has_ended

    def _make_request(self, now: datetime, limit: int) -> ClaimRequest:
        return ClaimRequest(
            now,
            limit,
            self.selection.plan,
            self.engine.identity,
            self.completions.take(),
            self.selection.accepts,
            self.selection.waits,
            keeps_history=self.store.history_runs != 0,
        )

    def _earliest(
        self, next_run_time: datetime | None, now: datetime
    ) -> datetime | None:
        times = [next_run_time, self._poll_time(now)]
        times += self.selection.retry_times(now)
        return min((time for time in times if time is not None), default=None)

    def _poll_time(self, now: datetime) -> datetime | None:
        """When to look for what other processes have put into the store; not all at the same moment."""
        if self.store.poll_interval is None:
            return None
        return now + timedelta(seconds=self.store.poll_interval) * random.uniform(
            0.8, 1.0
        )

    # Dispatch

    def _dispatch(self, claims: Sequence[Claim], events: list[SchedulerEvent]) -> None:
        """Hand what was claimed to the executors, if this node still has the right to."""
        refused = []
        outcomes = self.engine.outcomes
        node, offset = self.engine.identity.node.id, self.scheduler._clock.offset()
        # Asked again before each start: runs wait for a thread, or for each other, while the process is frozen.
        is_leased = partial(self.lease.is_good, self._term) if self.lease else None
        for claim in claims:
            outcomes.announce(self.alias, claim, events)
            if not claim.run_times:
                continue
            if self._is_closing_down() or (is_leased and not is_leased()):
                refused.append(claim)
                continue
            self._expect(claim, node, offset, is_leased)
            outcomes.submit(self.alias, claim, events)
        if refused:
            self.store.hand_back(refused)

    def _is_closing_down(self) -> bool:
        # Where runs are not kept, handing them back would lose them: shutting down waits for them instead.
        return (self.engine.stopping or self.is_removed) and self.store.keeps_runs

    def _expect(
        self,
        claim: Claim,
        node: str,
        offset: timedelta,
        may_start: Callable[[], bool] | None,
    ) -> None:
        """Note the runs before they start: they may end before the executor returns."""
        times = claim.run_times
        again = claim.plan.next_run_time if type(claim.job) is Job else None
        times.clock_offset = offset
        times.is_ready, times.may_start = claim.ready, may_start
        for index, run_id in enumerate(times.run_ids):
            self._open[run_id] = _OpenRun(claim.job, times, times[index], node, again)

    # Completion

    def note_outcome(self, event: JobExecutionEvent) -> bool:
        """Record how a run ended; return False if it is none of this store."""
        run_id = event.run_id or self._find_run(event)
        if run_id is None:
            return False
        self._ending[run_id] = event.job_id
        try:
            opened = self._open.pop(run_id, None)
            if opened is None:
                return False  # told before, or by somebody who was not handed the run
            self._settle(run_id, opened, event)
        finally:
            self._ending.pop(run_id, None)
        if self._has_waiting or event.job_id in self.selection.in_parts:
            self.scheduler.wakeup()
        self._close_if_last()
        return True

    def _settle(self, run_id: str, opened: _OpenRun, event: JobExecutionEvent) -> None:
        """Have it recorded how a run ended, or handed back that it did not begin."""
        if self._is_kept_from_starting(event, opened.run_times):
            self._unstarted.append(_claim_again(run_id, opened))
            if not self.engine.is_ending:  # the next pass hands it back
                self.scheduler.wakeup()
            elif not self.engine.stopping:
                # The program ends, and nobody closes the store.
                self._settle_accounts()
            return
        now = self.scheduler._clock.now()
        exc = event.exception
        completion = Completion(
            run_id,
            event.job_id,
            opened.node,
            opened.run_times.attempt,
            STATES.get(event.code, RunState.FAILED),
            now,
            event.started_at,
            event.duration,
            None if exc is None else f"{type(exc).__name__}: {exc}",
            event.traceback,
            self._keeps_history_of(opened.job),
        )
        again = opened.fires_again
        self.record(completion, again is not None and again < now + URGENT)
        if self.engine.observed:
            self.engine.outcomes.observe(self.alias, event, completion, opened.run_time)

    def _keeps_history_of(self, job: Job) -> bool:
        return keeps_history(job, self.store.history_runs != 0)

    def _is_kept_from_starting(
        self, event: JobExecutionEvent, run_times: RunTimes
    ) -> bool:
        """Whether an executor gave the run up before it began: at shutdown, or since others may have taken it over."""
        if (
            event.code != EVENT_JOB_LOST
            or event.started_at is not None
            or not self.store.keeps_runs
        ):
            return False
        may_start = run_times.may_start
        return self.engine.is_ending or (may_start is not None and not may_start())

    def _close_if_last(self) -> None:
        if self.is_closing and not self._open:
            self.scheduler._run_aside(self.close)

    def record(self, completion: Completion, urgent: bool = False) -> None:
        """Have an outcome written."""
        try:
            self.completions.add(completion, urgent)
        except Exception:
            self.scheduler._logger.exception(
                "Error recording the outcome of a run of job %r", completion.job_id
            )

    def forget(self, run_times: RunTimes, state: RunState, exc: Exception) -> None:
        """Record runs that were claimed and could not be handed to their executor."""
        now = self.scheduler._clock.now()
        for run_id in run_times.run_ids:
            opened = self._open.pop(run_id, None)
            if opened is not None:
                self.record(
                    Completion(
                        run_id,
                        opened.job.id,
                        opened.node,
                        run_times.attempt,
                        state,
                        now,
                        exception=f"{type(exc).__name__}: {exc}",
                        keep=self._keeps_history_of(opened.job),
                    )
                )

    def find_submission(
        self, job_id: str, executor: BaseExecutor
    ) -> tuple[Job, RunTimes] | None:
        """Return the oldest runs of a job that an executor was handed and has not reported."""
        executors = self.scheduler._executors
        for run in list(self._open.values()):
            if run.job.id == job_id and executors.get(run.job.executor) is executor:
                times = run.run_times
                left = [
                    i for i, run_id in enumerate(times.run_ids) if run_id in self._open
                ]
                return run.job, RunTimes(
                    [times[i] for i in left],
                    tuple(times.run_ids[i] for i in left),
                    times.claim_id,
                    times.attempt,
                )
        return None

    def _find_run(self, event: JobExecutionEvent) -> str | None:
        """Find the run by job and run time, for executors that drop its identity."""
        for run_id, run in list(self._open.items()):
            if run.job.id == event.job_id and run.run_time == event.scheduled_run_time:
                return run_id
        return None


def _claim_again(run_id: str, run: _OpenRun) -> Claim:
    """Return the claim of a single run, as a store takes it back."""
    times, again = run.run_times, run.fires_again
    run_times = RunTimes([run.run_time], (run_id,), times.claim_id, times.attempt)
    return Claim(run.job, Plan([run.run_time], again), run_times)
