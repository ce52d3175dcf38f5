"""What a scheduler does in a store now and then: take over from the dead, find its own lost claims, forget old runs."""

import random
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from apscheduler.clock import monotonic
from apscheduler.events import EVENT_JOB_LOST, JobExecutionEvent
from apscheduler.hooked import get_hooks
from apscheduler.job import Job
from apscheduler.jobstores.contract import Claim
from apscheduler.nodes import LEASE_SECONDS, RENEW_SECONDS
from apscheduler.runs import Completion, Plan, Run, RunFilter, RunState, RunTimes

if TYPE_CHECKING:
    from apscheduler.drivers import StoreDriver

LOOK_FOR_THE_DEAD = timedelta(seconds=5)
LOOK_AGAIN = timedelta(seconds=1)
PRUNE = timedelta(seconds=60)
# When leases look as if they were over, who is alive has so long to renew them.
PATIENCE = LOOK_FOR_THE_DEAD * 1.5
# Nobody can renew a lease in a store that does not answer: after so many seconds those of the living may be over.
LONG_OUTAGE = LEASE_SECONDS - 2 * RENEW_SECONDS

# So many runs are looked at for those that this node does not know to be its own.
MAX_RECOVERED = 10_000

LONG_AGO = datetime.min.replace(tzinfo=UTC)

# Both have the identifier of a run, its job, its run time, and what follows.
DIED = "Run %s of job %r (scheduled at %s) is lost: the scheduler that ran it has died, or was frozen, and the outcome is unknown%s"
NOT_STARTED = "Run %s of job %r (scheduled at %s) is lost: the job store failed while it was claimed, and the job is gone%s"


class Housekeeper:
    """Keeps one store tidy, as part of the passes over it."""

    def __init__(self, driver: "StoreDriver"):
        self._driver = driver
        self._scheduler = driver.scheduler
        # Whether a claim has failed: the store may have carried it out, so that only its answer got lost.
        self._is_unsure = False
        # The jobs that it was about: after its last fire a job is nowhere else.
        self._unsure_jobs: dict[str, Job] = {}
        self._next_search = self._next_prune = self._patient_until = LONG_AGO
        # Since when an answer of the store is waited for, through failures too, in monotonic time.
        self._waiting_since: float | None = None
        # How far the clock was ahead of monotonic time, which stands still while the machine sleeps.
        self._ahead: float | None = None

    def start(self, now: datetime) -> None:
        """Put off what is not among the first things that a program waits for."""
        self._next_prune = now + PRUNE * random.uniform(0.2, 1)

    def note_failed_claim(self, jobs: Mapping[str, Job]) -> None:
        """Look for what was claimed of these jobs, before anything else is claimed."""
        self._is_unsure = self._driver.store.keeps_runs
        if self._is_unsure:
            self._unsure_jobs.update(jobs)

    def begin(self) -> None:
        """Take note that an answer of the store is waited for from now on, or still."""
        if self._waiting_since is None:
            self._waiting_since = monotonic()

    def note_answer(self) -> None:
        """Take note that the store has answered."""
        if self.is_cut_off:
            self._patient_until = self._scheduler._clock.now() + PATIENCE
            if not self._driver.is_failing:  # of failures it has been told
                self._scheduler._logger.warning(
                    "Job store %r has answered after %.0f seconds; runs that were due meanwhile are late",
                    self._driver.alias,
                    self.waiting_seconds,
                )
        self._waiting_since = None

    @property
    def waiting_seconds(self) -> float:
        """For how long the store has failed, or kept everybody waiting."""
        since = self._waiting_since
        return 0.0 if since is None else monotonic() - since

    @property
    def is_cut_off(self) -> bool:
        """Whether that is a long time."""
        return self.waiting_seconds > LONG_OUTAGE

    def look_soon(self) -> None:
        """Look for dead nodes soon: a run that is in the way may be one of theirs."""
        soon = self._scheduler._clock.now() + LOOK_AGAIN
        self._next_search = min(self._next_search, soon)

    def keep(self, now: datetime) -> None:
        """Do what is due."""
        self.recover_claims(now)
        if self._driver.lease is not None:
            self._look_for_the_dead(now)
        # A time that is too far ahead is from before the clock was set back.
        if not now < self._next_prune <= now + 2 * PRUNE:
            self._next_prune = now + PRUNE * random.uniform(0.8, 1.2)
            store = self._driver.store
            if store.prune_runs(store.max_history_age, store.history_runs, now):
                self._next_prune = now + PRUNE / 10  # there may be more

    def _look_for_the_dead(self, now: datetime) -> None:
        """Take over from nodes that have died, if it is time to look for such."""
        soon = now + 2 * LOOK_FOR_THE_DEAD
        if self._has_jumped(now):
            self._patient_until = now + PATIENCE
        is_patient = now < self._patient_until <= soon or self.is_cut_off
        if is_patient or now < self._next_search <= soon:
            return
        self._next_search = now + LOOK_FOR_THE_DEAD * random.uniform(0.8, 1.2)
        node = self._driver.engine.identity.node
        self._report_lost(self._driver.store.take_over(node, now), DIED)

    def _has_jumped(self, now: datetime) -> bool:
        """Return whether the clock was set forward, or the machine slept, since this was asked last.

        The leases of others look as if they were over, then: who is alive renews them before the next search.
        """
        if self._scheduler._clock is not self._scheduler._default_clock:
            return False
        before, self._ahead = self._ahead, now.timestamp() - time.monotonic()
        return before is not None and self._ahead - before > RENEW_SECONDS

    def recover_claims(self, now: datetime) -> None:
        """Give back what was claimed by a step whose answer got lost: as long as this node lives, nobody takes it.

        :raises Exception: whatever the store raises; it is tried again
        """
        if not self._is_unsure:
            return
        driver, store = self._driver, self._driver.store
        # In this order: what goes on now may have ended when the store is asked, and what has ended is recorded before.
        unsettled = driver.engine.find_unsettled_runs()
        driver.completions.flush()
        running = RunFilter(states=frozenset([RunState.RUNNING]))
        node = driver.engine.identity.node.id
        for run in store.get_runs(running, MAX_RECOVERED):
            if run.node != node or run.id in unsettled:
                continue
            job = self._find_claimed(run.job_id)
            if job is None:
                run.state, run.finished_at = RunState.LOST, now
                driver.completions.add(
                    Completion(run.id, run.job_id, node, run.attempt, run.state, now)
                )
                self._report_lost([run], NOT_STARTED)
                continue
            times = RunTimes([run.scheduled_time], (run.id,), run.claim_id, run.attempt)
            plan = Plan([run.scheduled_time], job.next_run_time)
            store.hand_back([Claim(job, plan, times)])
        self._is_unsure, self._unsure_jobs = False, {}

    def _find_claimed(self, job_id: str) -> Job | None:
        """Return the job of a run that was claimed by a step that failed."""
        job = self._unsure_jobs.get(job_id)
        if job is None:
            stored = self._driver.store.read_job(job_id)
            job = None if stored is None else stored.job
        return job

    def _report_lost(self, taken: Iterable[Run], reason: str) -> None:
        driver, scheduler = self._driver, self._scheduler
        for run in taken:
            again = "; it runs again" if run.state is RunState.READY else ""
            scheduler._logger.error(
                reason, run.id, run.job_id, run.scheduled_time, again
            )
            event = JobExecutionEvent(
                EVENT_JOB_LOST, run.job_id, driver.alias, run.scheduled_time
            )
            event.run_id, event.attempt = run.id, run.attempt
            scheduler._dispatch_event(event)
            if driver.engine.observed:
                get_hooks().notify("apscheduler_run_lost", scheduler=scheduler, run=run)
