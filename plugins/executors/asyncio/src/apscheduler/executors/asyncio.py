"""An executor that runs coroutine functions on an asyncio event loop, and other functions beside it in threads."""

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.executors.base import BaseExecutor, run_coroutine_job, run_job
from apscheduler.runs import running
from apscheduler.util import iscoroutinefunction_partial

if TYPE_CHECKING:
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler

# How often a thread that waits for the loop looks whether there still is one.
LOOP_CHECK_SECONDS = 1


class _Batch:
    """One submission on its way."""

    def __init__(self, job: "Job", run_times: list[datetime]):
        self.job = job
        self.run_times = run_times
        self.events: list[JobExecutionEvent] = []
        # What can be waited for; None until the loop has taken the batch over.
        self.future: asyncio.Future[Any] | None = None
        # What runs on the loop and can be cancelled.
        self.task: asyncio.Task[Any] | None = None
        self.is_in_thread = False
        # Reports the outcome; set when a thread has ended, until the loop gets round to it.
        self.report: Callable[[], None] | None = None
        self.was_cancelled = False

    def note_cancellation(self) -> None:
        """Tell whether the task was cancelled, or just raised the exception by itself."""
        self.was_cancelled = self.task is not None and self.task.cancelling() > 0


class AsyncIOExecutor(BaseExecutor):
    """Runs coroutine functions as tasks on the scheduler's event loop, other functions in the loop's default executor.

    Jobs can be submitted from any thread. Listeners hear of their outcome on the loop's thread.
    """

    _eventloop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self._is_shut_down = False
        self._pending_futures: set[asyncio.Future[Any]] = set()
        # All that was submitted and not reported. Protected by the lock: who takes a batch out reports it.
        self._batches: set[_Batch] = set()

    def start(self, scheduler: "BaseScheduler", alias: str) -> None:
        super().start(scheduler, alias)
        self._eventloop = scheduler._eventloop  # type: ignore[attr-defined]  # only works with asyncio schedulers
        self._pending_futures = set()
        self._is_shut_down = False

    def shutdown(self, wait: bool = True) -> None:
        """Cancel coroutines and what has not begun; functions that run in threads go on and are reported.

        A coroutine that calls this is not cancelled itself. Returns at once, since waiting would stop the loop:
        await :meth:`wait_closed` for that.
        """
        if self._lock is None:
            return
        self._is_shut_down = True
        batches = self._snapshot()  # and not what is submitted after the next start
        if self._is_on_loop():
            self._cancel(batches)
            return
        try:
            self._eventloop.call_soon_threadsafe(self._cancel, batches)
        except (
            RuntimeError
        ):  # the loop is closed: nothing that was left to it will go on
            self._report_without_loop()

    async def wait_closed(self) -> None:
        """Wait until everything that was submitted has ended, except for the job that waits."""
        caller = asyncio.current_task()
        await asyncio.sleep(0)  # let the loop take over what comes from other threads
        while pending := {
            batch.future
            for batch in self._snapshot()
            if batch.future and not batch.future.done() and batch.task is not caller
        }:
            await asyncio.wait(pending)
        await asyncio.sleep(0)  # let it report what has just ended

    def _do_submit_job(self, job: "Job", run_times: list[datetime]) -> None:
        if self._is_shut_down:
            raise RuntimeError("This executor has been shut down")
        batch = _Batch(job, run_times)
        with self._lock:
            self._batches.add(batch)
        try:
            if self._is_on_loop():
                self._begin(batch)
            else:
                self._eventloop.call_soon_threadsafe(self._begin_later, batch)
        except BaseException:
            self._take(batch)
            raise

    def _begin(self, batch: _Batch) -> None:
        if iscoroutinefunction_partial(batch.job.func):
            task = self._eventloop.create_task(self._run_coroutine(batch))
            batch.future = batch.task = task
            task.add_done_callback(partial(self._task_ended, batch))
        else:
            batch.future = self._eventloop.run_in_executor(
                None, self._run_function, batch
            )
        self._pending_futures.add(batch.future)
        batch.future.add_done_callback(self._pending_futures.discard)

    def _begin_later(self, batch: _Batch) -> None:
        if batch not in self._batches:  # shut down in the meantime
            return
        try:
            self._begin(batch)
        except Exception as exc:  # whatever it is, nobody else would hear of it
            self._failed(batch, exc)

    async def _run_coroutine(self, batch: _Batch) -> None:
        try:
            await run_coroutine_job(
                *self._call(batch),
                propagate=(asyncio.CancelledError,),
                events=batch.events,
            )
        except asyncio.CancelledError:
            batch.note_cancellation()
            raise

    def _task_ended(self, batch: _Batch, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            self._cancelled(batch)
        elif (exc := task.exception()) is not None:
            self._failed(batch, exc)
        else:
            self._ended(batch)

    def _run_function(self, batch: _Batch) -> None:
        """Run a batch in a thread, and have the loop report it."""
        with self._lock:
            if batch not in self._batches:  # cancelled while it waited for a thread
                return
            batch.is_in_thread = True
        report = self._ended
        try:
            run_job(
                *self._call(batch),
                await_result=partial(self._await_on_loop, batch),
                propagate=(concurrent.futures.CancelledError,),
                events=batch.events,
            )
        except concurrent.futures.CancelledError:
            report = self._cancelled
        except (
            BaseException
        ) as exc:  # run_job reports what the job raises: this is something else
            report = partial(self._failed, exc=exc)
        batch.report = partial(report, batch)
        try:
            self._eventloop.call_soon_threadsafe(batch.report)
        except RuntimeError:  # the loop was closed
            batch.report()

    def _await_on_loop(self, batch: _Batch, awaitable: Awaitable[Any]) -> Any:
        """Wait in a thread for what a plain function returned, for example the coroutine of a lambda."""
        coroutine = self._await(batch, awaitable)
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._eventloop)
        except RuntimeError:
            coroutine.close()
            raise
        while True:
            try:
                return future.result(LOOP_CHECK_SECONDS)
            except TimeoutError:
                if future.done():  # then it is the job's own exception
                    raise
                if self._eventloop.is_closed():
                    batch.was_cancelled = True
                    raise concurrent.futures.CancelledError from None

    async def _await(self, batch: _Batch, awaitable: Awaitable[Any]) -> Any:
        batch.task = asyncio.current_task()
        if self._is_shut_down and batch.task is not None:
            batch.task.cancel()
        try:
            return await awaitable
        except asyncio.CancelledError:
            batch.note_cancellation()
            raise

    def _cancel(self, batches: list[_Batch]) -> None:
        """Cancel what can be cancelled, on the loop's thread."""
        caller = asyncio.current_task()
        current = running.get()  # also known where the job has left its task
        for batch in batches:
            if batch.task is not None:
                is_caller = current is not None and current.run_times is batch.run_times
                if batch.task is not caller and not is_caller:
                    batch.task.cancel()
                continue
            with self._lock:
                waits = batch in self._batches and not batch.is_in_thread
                if waits:
                    self._batches.discard(batch)
            if waits:
                if batch.future is not None:
                    batch.future.cancel()
                self._run_job_lost(batch.job, batch.run_times)

    def _report_without_loop(self) -> None:
        """Report what a closed loop has left behind; threads that still run report by themselves."""
        for batch in self._snapshot():
            if batch.report is not None:
                batch.report()
            elif not batch.is_in_thread:
                batch.was_cancelled = True
                self._cancelled(batch)

    def _ended(self, batch: _Batch) -> None:
        if self._take(batch):
            self._run_job_success(batch.job.id, batch.events)

    def _failed(self, batch: _Batch, exc: BaseException) -> None:
        if self._take(batch):
            job = batch.job
            self._run_job_error(job.id, exc, exc.__traceback__, job, batch.run_times)

    def _cancelled(self, batch: _Batch) -> None:
        """Report a batch that ended with a cancellation: as lost, or as failed if nobody had cancelled it."""
        if not self._take(batch):
            return
        if batch.events and not batch.was_cancelled:
            last = batch.events[-1]
            last.code = EVENT_JOB_ERROR
            last.traceback = ""
            self._logger.error(
                'Job "%s" raised an exception', batch.job, exc_info=last.exception
            )
        self._run_job_lost(batch.job, batch.run_times, batch.events)

    def _take(self, batch: _Batch) -> bool:
        """Return whether the caller is the one to report this batch."""
        with self._lock:
            is_mine = batch in self._batches
            self._batches.discard(batch)
        if batch.future is not None:
            self._pending_futures.discard(batch.future)
        return is_mine

    def _snapshot(self) -> list[_Batch]:
        if self._lock is None:
            return []
        with self._lock:
            return list(self._batches)

    def _call(self, batch: _Batch) -> tuple["Job", str, list[datetime], str]:
        job = batch.job
        alias: str = job._jobstore_alias  # type: ignore[assignment]  # submitted jobs are in a store
        return job, alias, batch.run_times, self._logger.name

    def _is_on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._eventloop
        except RuntimeError:
            return False
