"""An executor that runs each batch of a job in a greenlet of its own."""

import os
import traceback
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gevent import Greenlet, GreenletExit, get_hub, monkey, spawn
from gevent.event import Event

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_LOST, JobExecutionEvent
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.runs import running

if TYPE_CHECKING:
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler

# Real ones, also where those of Python have been made green.
_allocate_lock = monkey.get_original("_thread", "allocate_lock")
_get_ident = monkey.get_original("_thread", "get_ident")


class _Batch:
    """One submission on its way."""

    def __init__(self, job: "Job", run_times: list[datetime]):
        self.job = job
        self.run_times = run_times
        # What is known of the runs so far.
        self.events: list[JobExecutionEvent] = []
        # Why there are no events for all of them: something killed the greenlet, or is wrong outside the job.
        self.failure: BaseException | None = None
        # Called when the outcome has been reported.
        self.on_report: list[Callable[[], object]] = []


class GeventExecutor(BaseExecutor):
    """Runs jobs in greenlets on the hub of its scheduler, or else on that of the thread that has started it.

    Jobs can be submitted from any thread. Listeners hear of their outcome in a greenlet of that hub.
    """

    runs_coroutines = False

    _hub: Any
    _pid: int

    def __init__(self) -> None:
        super().__init__()
        self._is_shut_down = False
        # All that was submitted and has not been reported. Like what is to be called then, protected by the lock.
        self._batches: set[_Batch] = set()

    def start(self, scheduler: "BaseScheduler", alias: str) -> None:
        super().start(scheduler, alias)
        # The hub of this thread may never run: executors can be added to a running scheduler from anywhere.
        self._hub = getattr(scheduler, "_hub", None) or get_hub()
        self._pid = os.getpid()
        self._is_shut_down = False

    def shutdown(self, wait: bool = True) -> None:
        """Refuse work from here on; greenlets go on and are reported.

        :param wait: return only when all of them have ended, except for the job that asks for it
        """
        if self._lock is None:
            return
        self._is_shut_down = True
        if not wait or self._is_forked():
            return
        current = running.get()
        own = current.run_times if current is not None else None
        with self._lock:
            batches = [batch for batch in self._batches if batch.run_times is not own]
        for batch in batches:
            if self._hub.loop is None:  # what was left to the hub has gone with it
                self._run_job_lost(batch.job, batch.run_times, batch.events)
                self._forget(batch)
            else:
                self._wait_for(batch)

    def _wait_for(self, batch: _Batch) -> None:
        wait: Callable[[], object]
        wake: Callable[[], object]
        if self._is_on_hub():
            event = Event()
            wait, wake = event.wait, event.set
        else:
            lock = _allocate_lock()
            lock.acquire()
            wait, wake = lock.acquire, lock.release
        with self._lock:
            if batch not in self._batches:
                return
            batch.on_report.append(wake)
        wait()

    def _do_submit_job(self, job: "Job", run_times: list[datetime]) -> None:
        if self._is_shut_down:
            raise RuntimeError("This executor has been shut down")
        batch = _Batch(job, run_times)
        with self._lock:
            self._batches.add(batch)
        try:
            if self._is_on_hub():
                self._begin(batch)
            else:
                self._hub.loop.run_callback_threadsafe(self._begin, batch)
        except BaseException:
            self._forget(batch)
            raise

    def _begin(self, batch: _Batch) -> None:
        greenlet = spawn(self._run, batch)
        # Reported in a greenlet that nobody knows: one that was killed must not wait for anything any more.
        greenlet.link(lambda greenlet: spawn(self._report, batch, greenlet))

    def _run(self, batch: _Batch) -> None:
        if self._is_forked():
            return
        job = batch.job
        alias: str = job._jobstore_alias  # type: ignore[assignment]  # submitted jobs are in a store
        try:
            run_job(
                job,
                alias,
                batch.run_times,
                self._logger.name,
                propagate=(GreenletExit,),
                events=batch.events,
            )
        except BaseException as exc:  # what jobs raise is among the events
            batch.failure = exc

    def _report(self, batch: _Batch, greenlet: "Greenlet[..., Any]") -> None:
        job, run_times, exc = batch.job, batch.run_times, batch.failure
        try:
            if self._is_forked():
                return
            if exc is not None and not isinstance(exc, GreenletExit):
                self._run_job_error(job.id, exc, exc.__traceback__, job, run_times)
            elif len(batch.events) == len(run_times) and exc is None:
                self._run_job_success(job.id, batch.events)
            else:
                self._report_killed(batch, exc or greenlet.value or greenlet.exception)
        finally:
            self._forget(batch)

    def _report_killed(self, batch: _Batch, exc: Any) -> None:
        """Report the run that was killed as failed, as APScheduler 3 does, and those that never began as lost."""
        event = batch.events[-1] if batch.events else None
        if event is not None and event.code == EVENT_JOB_LOST:
            event.code = EVENT_JOB_ERROR
            event.traceback = "".join(traceback.format_tb(exc.__traceback__))
            self._logger.error('Job "%s" was killed', batch.job, exc_info=exc)
            traceback.clear_frames(exc.__traceback__)
        self._run_job_lost(batch.job, batch.run_times, batch.events, exc)

    def _forget(self, batch: _Batch) -> None:
        with self._lock:
            self._batches.discard(batch)
        for wake in batch.on_report:
            wake()

    def _is_forked(self) -> bool:
        """Whether greenlets go on here that were copied by a fork: what they have not begun is begun by the parent."""
        return os.getpid() != self._pid

    def _is_on_hub(self) -> bool:
        return bool(_get_ident() == self._hub.thread_ident)
