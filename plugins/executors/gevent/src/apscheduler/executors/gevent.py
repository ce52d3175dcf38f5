"""An executor that runs each batch of a job in a greenlet of its own."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from gevent import Greenlet, GreenletExit, get_hub, monkey, spawn
from gevent.event import Event

from apscheduler.events import JobExecutionEvent
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.runs import running

if TYPE_CHECKING:
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler

# Real ones, also where those of Python have been made green.
_allocate_lock, _get_ident = monkey.get_original(
    "_thread", ["allocate_lock", "get_ident"]
)


class _Batch:
    """One submission on its way."""

    def __init__(self, job: "Job", run_times: list[datetime]):
        self.job = job
        self.run_times = run_times
        self.events: list[JobExecutionEvent] = []
        # Whether the runs have come to their end, as the events tell.
        self.is_complete = False
        self.failure: BaseException | None = None
        # Whether the outcome has been reported, and what to call then. Protected by the lock of the executor.
        self.is_reported = False
        self.on_report: list[Callable[[], object]] = []


class GeventExecutor(BaseExecutor):
    """Runs jobs as greenlets on the hub of the thread that has started it, each batch in one of its own.

    Jobs can be submitted from any thread. Listeners hear of their outcome in a greenlet of that hub. Coroutines run
    on event loops of their own, in the thread pool of the hub.
    """

    _hub: Any = None
    _thread: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self._is_shut_down = False
        # All that was submitted and not reported. Protected by the lock: who takes a batch out reports it.
        self._batches: set[_Batch] = set()

    def start(self, scheduler: "BaseScheduler", alias: str) -> None:
        super().start(scheduler, alias)
        self._hub = get_hub()
        self._thread = _get_ident()
        self._is_shut_down = False

    def shutdown(self, wait: bool = True) -> None:
        """Refuse work from here on; greenlets go on and are reported.

        :param wait: return only when all of them have ended, except for the job that asks for it
        """
        if self._lock is None:
            return
        self._is_shut_down = True
        if not wait:
            return
        current = running.get()
        own = current.run_times if current is not None else None
        with self._lock:
            batches = [batch for batch in self._batches if batch.run_times is not own]
        for batch in batches:
            self._wait_for(batch)

    def _wait_for(self, batch: _Batch) -> None:
        if self._is_on_hub():
            event = Event()
            wait, wake = event.wait, event.set
        else:
            lock = _allocate_lock()
            lock.acquire()
            wait, wake = lock.acquire, lock.release
        with self._lock:
            if batch.is_reported:
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
            self._take(batch)
            raise

    def _begin(self, batch: _Batch) -> None:
        greenlet = spawn(self._run, batch)
        greenlet.link(partial(self._ended, batch))

    def _run(self, batch: _Batch) -> None:
        job = batch.job
        alias: str = job._jobstore_alias  # type: ignore[assignment]  # submitted jobs are in a store
        try:
            run_job(
                *(job, alias, batch.run_times, self._logger.name),
                await_result=self._await_in_thread,
                propagate=(GreenletExit,),
                events=batch.events,
            )
            batch.is_complete = True
        except BaseException as exc:  # the greenlet was killed, or it is a matter of run_job
            batch.failure = exc

    def _await_in_thread(self, awaitable: Awaitable[Any]) -> Any:
        """Wait in a greenlet for what the job has returned, for example a coroutine."""
        call = _Call(awaitable)
        run = contextvars.copy_context().run
        try:
            self._hub.threadpool.apply(run, (call.run,))
        except BaseException:  # the greenlet was killed
            call.cancel()
            raise
        if call.exception is not None:
            raise call.exception
        return call.result

    def _ended(self, batch: _Batch, greenlet: Greenlet) -> None:
        """Report a batch, in a greenlet that nobody else knows: one that was killed cannot wait for anything."""
        spawn(self._report, batch, greenlet)

    def _report(self, batch: _Batch, greenlet: Greenlet) -> None:
        try:
            if self._take(batch):
                self._report_outcome(batch, greenlet)
        finally:
            with self._lock:
                batch.is_reported = True
            for wake in batch.on_report:
                wake()

    def _report_outcome(self, batch: _Batch, greenlet: Greenlet) -> None:
        job, exc = batch.job, batch.failure
        if batch.is_complete:
            self._run_job_success(job.id, batch.events)
        elif exc is not None and not isinstance(exc, GreenletExit):
            self._run_job_error(job.id, exc, exc.__traceback__, job, batch.run_times)
        else:  # killed; without an exception of its own before it had begun
            exc = exc or greenlet.exception or greenlet.value
            self._run_job_lost(job, batch.run_times, batch.events, exc)

    def _take(self, batch: _Batch) -> bool:
        """Return whether the caller is the one to report this batch."""
        with self._lock:
            is_mine = batch in self._batches
            self._batches.discard(batch)
        return is_mine

    def _is_on_hub(self) -> bool:
        return bool(self._thread == _get_ident())


class _Call:
    """Awaits something on an event loop of its own."""

    def __init__(self, awaitable: Awaitable[Any]):
        self.result: Any = None
        self.exception: BaseException | None = None
        self._awaitable = awaitable
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    def run(self) -> None:
        """Have the result or the exception, in the thread that calls this; the thread pool would print the latter."""
        try:
            self.result = asyncio.run(self._await())
        except BaseException as exc:
            self.exception = exc

    def cancel(self) -> None:
        """Cancel it, from another thread."""
        self._is_cancelled = True
        loop, task = self._loop, self._task
        if loop is None or task is None:
            return
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:  # it has just come to its end
            pass

    async def _await(self) -> Any:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        if self._is_cancelled:  # before it has begun
            if iscoroutine(self._awaitable):
                self._awaitable.close()
            raise asyncio.CancelledError
        return await self._awaitable
