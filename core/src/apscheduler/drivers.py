"""What a scheduler does with one store in a pass: ask, plan, claim, dispatch."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from apscheduler.events import (
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
    JobExecutionEvent,
    JobstoreFailureEvent,
    SchedulerEvent,
)
from apscheduler.housekeeping import LONG_AGO, Housekeeper
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.jobstores.contract import (
    Claim,
    ClaimBatch,
    ClaimRequest,
    NativeJobStore,
)
from apscheduler.leases import NEVER, LeaseKeeper
from apscheduler.openruns import OpenRuns
from apscheduler.selection import Selection
from apscheduler.timekeeping import ServerClock
from apscheduler.util import is_interrupt

if TYPE_CHECKING:
    from apscheduler.engine import Engine


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
        self.runs = OpenRuns(self.scheduler, store)
        self.completions = self.runs.completions
        self.lease: LeaseKeeper | None = None
        # The term of the lease in which what was claimed last may be started.
        self._term = NEVER
        self.is_closing = False
        self.selection = Selection(self)
        self.housekeeper = Housekeeper(self)
        # Whether ready runs wait for a run of their job to end: its outcome wakes the loop.
        self._has_waiting = False
        # Whether what was claimed is being handed out: those runs are not among the open ones yet.
        self._is_dispatching = False
        self.is_removed = False
        self._retry_store_at: datetime | None = None
        # Whether listeners were told that the store has failed, and not that it answers again.
        self._is_out_of_order = False
        self._end_subscription: Callable[[], None] | None = None
        if store is not raw_store:
            # An adapter is linked, also to a store that is already at work.
            store._scheduler, store._alias = self.scheduler, alias

    def start(self) -> None:
        """Start the store."""
        if self.is_closing:  # runs of the last time are still going on: their outcomes are recorded one by one
            self.is_closing = False
            self.runs.settle_accounts()
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
        if not (self.store.performs_io and isinstance(clock, ServerClock)):
            return False
        return clock.follow(self.store, self.alias, self.scheduler._logger)

    def leave_to_parent(self) -> None:
        """In a forked process: forget the runs and the lease of the parent."""
        self.runs.leave_to_parent()
        self.lease = self._end_subscription = None

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
        if self.runs and self.store.keeps_runs:
            self.is_closing = True
            return
        self.is_closing = False
        try:
            self.runs.settle_accounts()
            if not self.is_failing:  # else it would be waited for in vain
                self.housekeeper.recover_claims(self.scheduler._clock.now())
        finally:
            self.completions.end_thread()
            if self.lease is not None:
                self.lease.release()
            self.store.shutdown()
            clock = self.scheduler._clock
            if isinstance(clock, ServerClock):
                clock.stop_following(self.store)

    def settle_without_claims(self) -> None:
        """Settle what waits for the next claim, which does not come: the store has been removed, and may be added again.

        Outcomes on their way to a store that does I/O have a thread that writes them.
        """
        if not self.store.performs_io:
            self.runs.settle_accounts()

    def hand_back_with_program(self) -> None:
        """Hand back what has not begun, since the program ends."""
        try:
            self.runs.hand_back_unstarted()
        except Exception as exc:
            self.scheduler._logger.warning(
                "Runs that have not begun could not be handed back to job store %r, and will be called lost: %s",
                self.alias,
                exc,
            )

    def _owns_runs(self) -> bool:
        return self._is_dispatching or self.runs.are_owned

    @property
    def is_failing(self) -> bool:
        """Whether the last pass has failed."""
        return self._retry_store_at is not None

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
        if self.store.performs_io:
            self.engine.watch.start(scheduler._threads)
        try:
            wakeup = self._run_rounds(now, events)
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            scheduler._logger.warning(
                "Error getting due jobs from job store %r: %s", self.alias, exc
            )
            if not self._is_out_of_order:
                self._is_out_of_order = True
                events.append(
                    JobstoreFailureEvent(EVENT_JOBSTORE_FAILED, self.alias, exc)
                )
            self._retry_store_at = now + pause
            return self._retry_store_at, events
        self.housekeeper.note_answer()
        self._retry_store_at = None
        if self._is_out_of_order:
            self._is_out_of_order = False
            scheduler._logger.info("Job store %r answers again", self.alias)
            events.append(SchedulerEvent(EVENT_JOBSTORE_RECOVERED, self.alias))
        return wakeup, events

    @property
    def is_silent(self) -> bool:
        """Whether the store has not answered for long, and nobody has been told that something is wrong."""
        return not self._is_out_of_order and self.housekeeper.is_cut_off

    def tell_of_silence(self) -> None:
        """Tell that the store has not answered for long; called by the watch, while the pass waits."""
        seconds = self.housekeeper.waiting_seconds
        self.scheduler._logger.error(
            "Job store %r has not answered for %.0f seconds; its jobs wait",
            self.alias,
            seconds,
        )
        exc = TimeoutError(f"no answer for {seconds:.0f} seconds")
        self.scheduler._dispatch_event(
            JobstoreFailureEvent(EVENT_JOBSTORE_FAILED, self.alias, exc)
        )
        # In this order: that it answers again is told afterwards, also if it has meanwhile.
        self._is_out_of_order = True
        self.scheduler.wakeup()

    def _run_rounds(
        self, now: datetime, events: list[SchedulerEvent]
    ) -> datetime | None:
        """Claim and dispatch until nothing more is due, or nothing more can be started."""
        if self._compare_clocks():
            now = self.scheduler._clock.now()
        if self.runs.has_unstarted:
            self.runs.settle_accounts()
        self.housekeeper.keep(now)
        began = now
        for _ in range(self.scheduler._steps_per_pass):
            limit = self.selection.look_for_capacity()
            if not limit:
                return self._poll_time(now)  # a slot that becomes free wakes the loop
            batch, may_go_on = self._claim_and_dispatch(now, limit, events)
            if not may_go_on:
                return self._earliest(batch.next_run_time, now)
            now = self.scheduler._clock.now()
        return began  # at once

    def _claim_and_dispatch(
        self, now: datetime, limit: int, events: list[SchedulerEvent]
    ) -> tuple[ClaimBatch, bool]:
        """Make one step, and return what was claimed and whether another step is worth while."""
        self._is_dispatching = True
        try:
            batch, has_ended = self._claim(now, limit)
            self._dispatch(batch.claims, events)
        finally:
            self._is_dispatching = False
        has_rest = self.selection.has_rest and any(map(self._leaves_rest, batch.claims))
        return batch, (batch.more and bool(batch.claims)) or has_rest or has_ended

    def _leaves_rest(self, claim: Claim) -> bool:
        """Return whether a claim was a part of a backlog, of which more is due; others may be at the rest of theirs."""
        return not claim.ready and claim.job.id in self.selection.in_parts

    def _claim(self, now: datetime, limit: int) -> tuple[ClaimBatch, bool]:
        """Take what is due, and with it the lease on what that starts.

        :return: what was claimed, and whether a run has ended meanwhile for which ready runs wait
        """
        lease, expiry = self.lease, None
        self.selection.begin(now)
        with self.completions.writing:
            request = self._make_request(now, limit)
            if lease is not None:
                expiry, must_record = lease.next_claim()
                request.lease_until = expiry.at if must_record else None
            self.housekeeper.begin()
            try:
                batch = self.store.claim(request)
            except BaseException:
                self.completions.give_back(list(request.completions))
                self.housekeeper.note_failed_claim(self.selection.accepted)
                raise
            self.housekeeper.note_answer()
            # In this order: an outcome from here on wakes the loop, and one from before is still there to be seen.
            self._has_waiting = batch.waiting
            has_ended = batch.waiting and self.completions.has_pending
        self.selection.tell()
        if lease and expiry and any(claim.run_times for claim in batch.claims):
            self._term = lease.granted(expiry)
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
        times = self.selection.retry_times(now)
        for time in (next_run_time, self._poll_time(now)):
            if time is not None:
                times.append(time)
        return min(times, default=None)

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
        # Where runs are not kept, handing them back would lose them: shutting down waits for them instead.
        may_hand_back = self.store.keeps_runs
        left = iter(claims)
        try:
            for claim in left:
                outcomes.announce(self.alias, claim, events)
                if not claim.run_times:
                    if claim.skipped:
                        self.housekeeper.look_soon()
                    continue
                is_closing_down = self.engine.stopping or self.is_removed
                if (is_closing_down and may_hand_back) or (
                    is_leased and not is_leased()
                ):
                    refused.append(claim)
                    continue
                self.runs.expect(claim, node, offset, is_leased)
                outcomes.submit(self.alias, self.runs, claim, events)
        except BaseException:  # of a signal handler, such as KeyboardInterrupt
            self.runs.keep_from_starting([*refused, *left])
            raise
        if refused:
            self.store.hand_back(refused)

    # Completion

    def note_outcome(self, event: JobExecutionEvent) -> bool:
        """Record how a run ended; return False if it is none of this store, or was told before."""
        found = self.runs.find(event)
        if found is None:
            return False
        run_id, claim = found
        completion = self.runs.settle(run_id, claim, event)
        if completion is None:
            self._note_unstarted()
        elif self.engine.observed:
            self.engine.outcomes.observe(self.alias, event, completion)
        if self._has_waiting or event.job_id in self.selection.in_parts:
            self.scheduler.wakeup()
        if self.is_closing and not self.runs:
            self.scheduler._run_aside(self.close)
        return True

    def _note_unstarted(self) -> None:
        """See to it that a run that was kept from starting is handed back."""
        if not self.engine.is_ending:  # by the next pass
            self.scheduler.wakeup()
        elif not self.engine.stopping:  # the program ends, and nobody closes the store
            self.runs.settle_accounts()
