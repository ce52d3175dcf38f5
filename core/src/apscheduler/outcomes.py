"""Hands claimed runs to executors, and tells listeners and hooks what becomes of them."""

import logging
from typing import TYPE_CHECKING, Any

from apscheduler.events import (
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_SUBMITTED,
    JobExecutionEvent,
    JobRangeEvent,
    JobSubmissionEvent,
    SchedulerEvent,
)
from apscheduler.executors.base import MaxInstancesReachedError, identify
from apscheduler.hooked import get_hooks
from apscheduler.job import Job
from apscheduler.jobstores.contract import Claim
from apscheduler.runs import Completion, FireRange, Run, RunState
from apscheduler.util import is_interrupt

if TYPE_CHECKING:
    from apscheduler.openruns import OpenRuns
    from apscheduler.schedulers.base import BaseScheduler

OBSERVERS = {
    EVENT_JOB_EXECUTED: "apscheduler_run_finished",
    EVENT_JOB_ERROR: "apscheduler_run_failed",
    EVENT_JOB_MISSED: "apscheduler_run_missed",
    EVENT_JOB_LOST: "apscheduler_run_lost",
}


class Outcomes:
    """What a scheduler says about its runs."""

    def __init__(self, scheduler: "BaseScheduler"):
        self._scheduler = scheduler

    def announce(self, alias: str, claim: Claim, events: list[SchedulerEvent]) -> None:
        """Tell what a claim does besides starting runs."""
        scheduler, job, plan = self._scheduler, claim.job, claim.plan
        if plan.missed is not None and not claim.ready:
            self._log_missed(job, plan.missed)
            self._announce_range(alias, claim, EVENT_JOB_MISSED, plan.missed)
        if plan.coalesced is not None and not claim.ready:
            self._announce_range(alias, claim, EVENT_JOB_COALESCED, plan.coalesced)
        if claim.skipped:
            self._announce_skip(alias, claim, events)
        if claim.is_finished and not claim.announced:
            scheduler._logger.info("Removed job %s", job.id)
            scheduler._tell_of_job(EVENT_JOB_REMOVED, job.id, alias)

    def _log_missed(self, job: Job, fires: FireRange) -> None:
        """Log missed run times where programs that look for such records, or silence them, expect them."""
        logger = logging.getLogger(f"apscheduler.executors.{job.executor}")
        late = self._scheduler._clock.now() - fires.last
        logger.warning(
            'Run time of job "%s" was missed by %s%s', job, late, _describe(fires)
        )

    def _announce_range(
        self, alias: str, claim: Claim, code: int, fires: FireRange
    ) -> None:
        self._scheduler._dispatch_event(
            JobRangeEvent(
                code, claim.job.id, alias, fires.first, fires.last, fires.count
            )
        )
        if code == EVENT_JOB_MISSED:
            self._observe_idle("missed", RunState.MISSED, alias, claim, fires)
        else:
            self._observe_idle("skipped", RunState.COALESCED, alias, claim, fires)

    def _observe_idle(
        self, word: str, state: RunState, alias: str, claim: Claim, fires: FireRange
    ) -> None:
        """Tell hooks of fire times that do not run."""
        hooks, name = get_hooks(), f"apscheduler_run_{word}"
        if hooks.has(name):
            run = Run("", claim.job.id, alias, state, fires.last)
            run.first_time, run.count = fires.first, fires.count
            hooks.notify(name, scheduler=self._scheduler, run=run)

    def _announce_skip(
        self, alias: str, claim: Claim, events: list[SchedulerEvent]
    ) -> None:
        self._scheduler._logger.warning(
            'Execution of job "%s" skipped: maximum number of running instances reached (%s)',
            claim.job,
            claim.job.max_instances,
        )
        events.append(
            JobSubmissionEvent(
                EVENT_JOB_MAX_INSTANCES, claim.job.id, alias, claim.plan.run_times
            )
        )
        times = claim.plan.run_times
        fires = FireRange(times[0], times[-1], len(times))
        self._observe_idle("skipped", RunState.SKIPPED, alias, claim, fires)

    def submit(
        self, alias: str, runs: "OpenRuns", claim: Claim, events: list[SchedulerEvent]
    ) -> None:
        """Hand the runs to their executor; a run that it refuses has ended, one way or the other.

        :param runs: those that go on of the store, which knows of these
        """
        scheduler, job, run_times = self._scheduler, claim.job, claim.run_times
        if scheduler._engine.observed:
            self._observe_start(alias, claim)
        try:
            executor = claim.executor = scheduler._lookup_executor(job.executor)
        except KeyError:  # removed since the claim
            runs.keep_from_starting([claim])  # until it is there again
            runs.abandon(run_times)
            scheduler.wakeup()
            return
        try:
            executor.submit_job(job, run_times)
        except MaxInstancesReachedError as exc:
            self._announce_skip(alias, claim, events)
            runs.forget(run_times, RunState.SKIPPED, exc)
        except BaseException as exc:
            if is_interrupt(exc):
                runs.abandon(run_times)
                raise
            code = EVENT_JOB_ERROR
            if scheduler._engine.is_ending:  # refused for that reason: it has not begun
                code = EVENT_JOB_LOST
            else:
                scheduler._logger.exception(
                    'Error submitting job "%s" to executor %r', job, job.executor
                )
            for index, run_time in enumerate(run_times):
                event = JobExecutionEvent(code, job.id, alias, run_time, exception=exc)
                identify(event, run_times, index)
                scheduler._dispatch_event(event)
        else:
            if scheduler._is_heard(EVENT_JOB_SUBMITTED):
                events.append(
                    JobSubmissionEvent(EVENT_JOB_SUBMITTED, job.id, alias, run_times)
                )

    def _observe_start(self, alias: str, claim: Claim) -> None:
        hooks = get_hooks()
        if not hooks.has("apscheduler_run_starting"):
            return
        times = claim.run_times
        for run_id, run_time in zip(times.run_ids, times, strict=True):
            run = Run(run_id, claim.job.id, alias, RunState.RUNNING, run_time)
            run.claim_id, run.attempt = times.claim_id, times.attempt
            hooks.notify("apscheduler_run_starting", scheduler=self._scheduler, run=run)

    def observe(
        self,
        alias: str,
        event: JobExecutionEvent,
        completion: Completion,
    ) -> None:
        """Tell hooks how a run ended."""
        name = OBSERVERS.get(event.code)
        hooks = get_hooks()
        if name is None or not hooks.has(name):
            return
        run = Run(
            completion.run_id,
            completion.job_id,
            alias,
            completion.state,
            event.scheduled_run_time,
            node=completion.node,
            attempt=completion.attempt,
            started_at=completion.started_at,
            finished_at=completion.finished_at,
            duration=completion.duration,
            exception=completion.exception,
            traceback=completion.traceback,
        )
        arguments: dict[str, Any] = {"scheduler": self._scheduler, "run": run}
        if event.code == EVENT_JOB_ERROR:
            arguments["exception"] = event.exception
        hooks.notify(name, **arguments)


def _describe(fires: FireRange) -> str:
    """Tell what came before the last of the fire times."""
    if fires.first == fires.last:
        return ""
    return f" (the last of {fires.count or 'many'} times since {fires.first})"
