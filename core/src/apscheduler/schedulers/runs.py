"""What can be done with runs: have one now, list and count them, wait for one."""

import time
from collections.abc import Iterable, Iterator
from datetime import datetime

from apscheduler.jobstores.contract import NativeJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import Run, RunFilter, RunState
from apscheduler.schedulers.components import STATE_RUNNING, STATE_STOPPED
from apscheduler.schedulers.jobs import JobMethods
from apscheduler.util import convert_to_datetime

# How often a run that is waited for is looked at, in seconds, once it has taken a while.
MAX_LOOK_PAUSE = 0.5


class RunMethods(JobMethods):
    """The methods of :class:`BaseScheduler` that concern runs."""

    def run_job(self, job_id: str, jobstore: str | None = None) -> Run:
        """Run a job as soon as possible, besides its schedule, which does not change.

        :return: the record of the run that is waiting to be started
        :raises JobLookupError: if there is no such job
        :raises RuntimeError: if the scheduler is not running
        """
        if self.state == STATE_STOPPED:
            raise RuntimeError(
                f"Job {job_id!r} cannot be run: the scheduler has not been started"
            )
        job, alias = self._lookup_job(job_id, jobstore)
        assert alias is not None
        now = self._now()
        # Not an identifier of the engine: a forked process would make the same ones.
        run = Run(Identity().new_id(), job.id, alias, RunState.READY, now)
        run.available_at = now
        self._native_store(alias).add_ready_run(job, run)
        if self.state == STATE_RUNNING:
            self.wakeup()
        return run

    def get_runs(
        self,
        job_id: str | None = None,
        states: Iterable[RunState | str] | RunState | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        jobstore: str | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        node: str | None = None,
        attempt: int | None = None,
    ) -> list[Run]:
        """Return runs, waiting, going on and finished, latest scheduled time first.

        :param job_id: only those of this job
        :param states: only those in one of these states
        :param since: only those scheduled at this time or later
        :param until: only those scheduled before this time
        :param jobstore: alias of a store; None: all
        :param limit: at most so many
        :param offset: without so many of the latest
        :param node: only those of this scheduler
        :param attempt: only those that were started so many times
        :raises ValueError: if there is no such state, or a number is negative
        """
        for name, value in (("limit", limit), ("offset", offset)):
            if value < 0:
                raise ValueError(f"{name!r} must not be negative, but is {value!r}")
        which = self._run_filter(job_id, states, since, until, node, attempt)
        runs: list[Run] = []
        for store in self._stores_of_runs(jobstore):
            # Of several stores the latest runs of each are needed to know the latest of all.
            runs.extend(store.get_runs(which, limit + offset))
        runs.sort(key=lambda r: (r.scheduled_time.timestamp(), r.id), reverse=True)
        return runs[offset : offset + limit]

    def count_runs(
        self,
        job_id: str | None = None,
        states: Iterable[RunState | str] | RunState | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        jobstore: str | None = None,
        *,
        node: str | None = None,
        attempt: int | None = None,
    ) -> int:
        """Return how many runs :meth:`get_runs` finds without a limit.

        :raises ValueError: if there is no such state
        """
        which = self._run_filter(job_id, states, since, until, node, attempt)
        stores = self._stores_of_runs(jobstore)
        return sum(store.count_runs(which) for store in stores)

    def get_run(self, run_id: str, jobstore: str | None = None) -> Run | None:
        """Return the run with this identifier, or None if it is not known, or not any more.

        :param jobstore: alias of its store; None: look in all
        """
        for store in self._stores_of_runs(jobstore):
            for run in store.get_runs(RunFilter(run_id=run_id), 1):
                return run
        return None

    def wait_for_run(
        self,
        run_id: str,
        timeout: float | None = None,
        jobstore: str | None = None,
    ) -> Run | None:
        """Wait until a run has ended, wherever it runs, and return it; None if it is not kept.

        It looks into the store again and again, so that it must not be called on the thread of an event loop.

        :param timeout: for how many seconds to wait; None: without limit
        :raises TimeoutError: if the run has not ended by then
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.01
        while True:
            run = self.get_run(run_id, jobstore)
            if run is None or run.state.is_final:
                return run
            left = pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"The run {run_id!r} of job {run.job_id!r} has not ended within {timeout} s: it is {run.state}"
                )
            time.sleep(min(pause, left))
            pause = min(2 * pause, MAX_LOOK_PAUSE)

    def _stores_of_runs(self, jobstore: str | None) -> Iterator[NativeJobStore]:
        """Return the stores that may have runs, what has ended here written to them."""
        for alias in self._matching_stores(jobstore):
            driver = self._engine.add(alias, self._lookup_jobstore(alias))
            driver.completions.flush()
            yield driver.store

    def _run_filter(
        self,
        job_id: str | None,
        states: Iterable[RunState | str] | RunState | str | None,
        since: datetime | None,
        until: datetime | None,
        node: str | None,
        attempt: int | None,
    ) -> RunFilter:
        if isinstance(states, str):
            states = (states,)
        wanted = None if states is None else frozenset(map(RunState, states))
        since = convert_to_datetime(since, self.timezone, "since")
        until = convert_to_datetime(until, self.timezone, "until")
        return RunFilter(job_id, wanted, since, until, node=node, attempt=attempt)
