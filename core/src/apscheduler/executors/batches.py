"""What an executor keeps of the runs that were submitted to it, so that each is reported once and can be waited for."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from apscheduler.clock import NO_OFFSET
from apscheduler.events import EVENT_JOB_LOST, JobExecutionEvent
from apscheduler.executors.base import BaseExecutor, make_events
from apscheduler.runs import running

if TYPE_CHECKING:
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler


class LoopTask(Protocol):
    """A coroutine that runs on an event loop; the methods mean the same as those of ``asyncio.Task``."""

    def cancel(self) -> object: ...
    def cancelling(self) -> int: ...
    def cancelled(self) -> bool: ...
    def exception(self) -> BaseException | None: ...
    def result(self) -> Any: ...
    def add_done_callback(self, callback: Callable[[Any], object], /) -> object: ...
    def remove_done_callback(self, callback: Callable[[Any], object], /) -> object: ...


class Batch:
    """One submission on its way."""

    # What runs on the loop and can be cancelled; and what that calls when it ends before it could report by itself.
    task: LoopTask | None = None
    on_end: Callable[[Any], object] | None = None
    # What stands for the call of a function in a thread, if anything does.
    future: Any = None
    # Whether it has come so far that the function may have been called. Protected by the lock of the executor.
    has_begun = False
    began_at: datetime | None = None
    # Whether it runs in a thread; and whether that waits for the loop, which does what a function has returned.
    is_in_thread = False
    is_awaiting = False
    # Reports the outcome; set when a thread has ended, until the loop gets round to it.
    report: Callable[[], None] | None = None
    # Whether the outcome has been reported, and what to call then; whether its job is waiting for other jobs.
    # Protected by the lock of the executor.
    is_reported = False
    on_report: Sequence[Callable[[], object]] = ()
    waits = False

    def __init__(self, job: "Job", run_times: list[datetime]):
        self.job = job
        self.run_times = run_times
        self.events: list[JobExecutionEvent] = []

    @property
    def is_being_cancelled(self) -> bool:
        """Whether somebody has cancelled the task; otherwise it has raised the exception by itself."""
        return self.task is not None and self.task.cancelling() > 0


class BatchExecutor(BaseExecutor):
    """Keeps what was submitted to it until that has been reported."""

    def __init__(self) -> None:
        super().__init__()
        # Protected by the lock, like the set below.
        self._is_shut_down = False
        # All that was submitted and not reported: who takes a batch out reports it.
        self._batches: set[Batch] = set()

    def start(self, scheduler: "BaseScheduler", alias: str) -> None:
        super().start(scheduler, alias)
        self._is_shut_down = False

    def _ended(self, batch: Batch) -> None:
        self._finish(batch, self._run_job_success, batch.job.id, batch.events)

    def _failed(self, batch: Batch, exc: BaseException) -> None:
        job, frames = batch.job, exc.__traceback__
        self._finish(
            *(batch, self._run_job_error, job.id, exc, frames, job, batch.run_times)
        )

    def _cancelled(self, batch: Batch) -> None:
        """Report a batch that was cancelled: what has not ended is lost."""
        self._finish(
            batch, self._run_job_lost, batch.job, batch.run_times, batch.events
        )

    def _note_abandoned(self, batch: Batch) -> None:
        """Tell which run a coroutine was at that will never go on: nobody may think that it was not started."""
        index = len(batch.events)
        if batch.began_at is None or index == len(batch.run_times):
            return
        event = make_events(EVENT_JOB_LOST, batch.job, batch.run_times, None)[index]
        offset = getattr(batch.run_times, "clock_offset", NO_OFFSET)
        event.started_at = batch.began_at + offset
        batch.events.append(event)

    def _finish(self, batch: Batch, report: Callable[..., None], *args: Any) -> None:
        """Report the batch, unless somebody else has."""
        if not self._take(batch):
            return
        try:
            report(*args)
        finally:
            with self._lock:
                batch.is_reported = True
            for callback in batch.on_report:
                callback()

    def _take(self, batch: Batch) -> bool:
        """Return whether the caller is the one to report this batch."""
        with self._lock:
            is_mine = batch in self._batches
            self._batches.discard(batch)
        return is_mine

    def _call_when_reported(self, batch: Batch, callback: Callable[[], object]) -> None:
        """Have a function called once the batch has been reported, on the thread of the loop if it still runs."""
        with self._lock:
            if not batch.is_reported:
                batch.on_report = (*batch.on_report, callback)
                return
        callback()

    def _others(self) -> list[Batch]:
        """Return what was submitted and has not ended, except for the batch of the job that asks."""
        own = own_run_times()
        return [batch for batch in self._snapshot() if batch.run_times is not own]

    def _snapshot(self) -> list[Batch]:
        if self._lock is None:
            return []
        with self._lock:
            return list(self._batches)

    def _call(self, batch: Batch) -> tuple["Job", str, list[datetime], str]:
        job = batch.job
        alias: str = job._jobstore_alias  # type: ignore[assignment]  # submitted jobs are in a store
        return job, alias, batch.run_times, self._logger.name


def own_run_times() -> list[datetime] | None:
    """Return the run times of the batch to which the caller belongs, also where the job has left its task."""
    current = running.get()
    return current.run_times if current is not None else None
