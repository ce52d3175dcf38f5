"""What executors that work on an event loop have in common, whatever loop it is."""

import concurrent.futures
import contextvars
import threading
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, ClassVar

from apscheduler.executors.base import run_coroutine_job, run_job
from apscheduler.executors.batches import (
    Batch,
    BatchExecutor,
    LoopTask,
    own_run_times,
)
from apscheduler.util import iscoroutinefunction_partial

if TYPE_CHECKING:
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler

# How often a thread that waits for the loop looks whether there still is one.
LOOP_CHECK_SECONDS = 1


class RunCancelledError(concurrent.futures.CancelledError):
    """What a function returned was cancelled on the loop, or the loop was closed; no job raises this by itself."""

    def __init__(self) -> None:
        super().__init__("The run was cancelled on its event loop")


class LoopExecutor(BatchExecutor):
    """Runs coroutine functions on an event loop, and other functions in threads beside it.

    Whatever awaitable these return is awaited on the loop. Jobs can be submitted from any thread. Listeners hear of
    outcomes on the thread of the loop.

    A subclass sets its loop in :meth:`start` and implements the methods at the end of this class.
    """

    runs_coroutines = True
    # What is raised in a coroutine that is cancelled.
    cancellations: ClassVar[tuple[type[BaseException], ...]]
    # Whether shutting down ends coroutines that have begun.
    cancels_on_shutdown: ClassVar[bool] = False

    def shutdown(self, wait: bool = True) -> None:
        """Refuse work from here on. What has not begun is reported as lost, so that it can be run elsewhere.

        Functions in threads go on and are reported; so do coroutines, unless ``cancels_on_shutdown``.

        :param wait: return only when all runs have ended, except for the one that asks for it. On the thread of the
            loop this returns at once, because waiting would stop the loop: ``wait_closed`` is for that
        """
        if self._lock is None:
            return
        with self._lock:
            self._is_shut_down = True
            batches = list(self._batches)  # and not what comes after the next start
        if self._is_on_loop():
            self._cancel(batches, self.cancels_on_shutdown)
            return
        ends_running = self.cancels_on_shutdown or wait
        try:
            self._call_soon(self._cancel, batches, self.cancels_on_shutdown)
        except RuntimeError:  # nothing that was left to a closed loop will go on
            ends_running = True
        if not self._is_running():  # it may have been stopped for good
            self._report_without_loop(batches, ends_running)
        if wait:
            self._wait_for(batches)
            if not self._is_running():  # or it was stopped meanwhile
                self._report_without_loop(batches, ends_running)

    # Submission

    def _do_submit_job(self, job: "Job", run_times: list[datetime]) -> None:
        batch = Batch(job, run_times)
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("This executor has been shut down")
            self._batches.add(batch)
        try:
            if self._is_on_loop():
                self._begin(batch)
            else:
                self._call_soon(self._begin_later, batch)
        except BaseException:
            self._take(batch)
            raise

    def _begin(self, batch: Batch) -> None:
        if self._belongs_on_loop(batch.job.func):
            task = batch.task = self._create_task(self._run_coroutine(batch))
            batch.on_end = partial(self._task_ended, batch)
            task.add_done_callback(batch.on_end)
        else:
            batch.future = self._call_in_thread(partial(self._run_function, batch))

    def _begin_later(self, batch: Batch) -> None:
        if batch not in self._batches:  # taken back in the meantime
            return
        if self._is_shut_down:
            self._cancelled(batch)
            return
        try:
            self._begin(batch)
        except Exception as exc:  # whatever it is, nobody else would hear of it
            self._failed(batch, exc)

    # Coroutines

    async def _run_coroutine(self, batch: Batch) -> None:
        with self._lock:
            if batch.has_begun:
                return  # taken back while the loop was stopped
            batch.has_begun = True
        batch.began_at = datetime.now(UTC)
        await run_coroutine_job(
            *self._call(batch),
            propagate=self.cancellations,
            is_being_cancelled=lambda: batch.is_being_cancelled,
            events=batch.events,
        )
        # Nobody needs to call back, which takes another turn of the loop.
        if batch.task is not None and batch.on_end is not None:
            batch.task.remove_done_callback(batch.on_end)
        try:
            self._ended(batch)
        except Exception:
            self._logger.exception("Error reporting a run of job %s", batch.job.id)

    def _task_ended(self, batch: Batch, task: LoopTask) -> None:
        if task.cancelled():
            self._cancelled(batch)
        elif (exc := task.exception()) is not None:
            self._failed(batch, exc)
        else:
            self._ended(batch)

    # Functions

    def _run_function(self, batch: Batch) -> None:
        """Run a batch in a thread, and have the loop report it."""
        if self._is_closed():
            self._cancelled(batch)
            return
        with self._lock:
            if batch.has_begun or batch not in self._batches:
                return  # cancelled while it waited for a thread
            batch.has_begun = batch.is_in_thread = True
        batch.began_at = datetime.now(UTC)
        report = self._ended
        try:
            run_job(
                *self._call(batch),
                await_result=partial(self._await_on_loop, batch),
                propagate=(RunCancelledError,),
                events=batch.events,
            )
        except RunCancelledError:
            report = self._cancelled
        except BaseException as exc:  # what the job raises is reported by run_job
            report = partial(self._failed, exc=exc)
        batch.report = partial(report, batch)
        if self._is_shut_down and not self._is_running():
            batch.report()  # the loop may have been stopped for good
            return
        try:
            self._call_soon(batch.report)
        except RuntimeError:  # the loop was closed
            batch.report()

    def _await_on_loop(self, batch: Batch, awaitable: Awaitable[Any]) -> Any:
        """Wait in a thread for what a plain function returned, for example the coroutine of a lambda."""
        outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
        run = contextvars.copy_context().run  # current_run() answers there, too
        batch.task = None  # that of the run before
        batch.is_awaiting = True
        try:
            self._call_soon(run, self._begin_to_await, batch, awaitable, outcome)
            return self._wait_for_outcome(batch, outcome)
        finally:
            batch.is_awaiting = False
            if batch.task is None:  # the loop has not come to it
                _close(awaitable)

    def _wait_for_outcome(
        self, batch: Batch, outcome: "concurrent.futures.Future[Any]"
    ) -> Any:
        while True:
            try:
                # Gives what the job raises, and only raises what has to do with waiting.
                exc = outcome.exception(LOOP_CHECK_SECONDS)
            except TimeoutError:
                if self._is_closed():
                    raise RunCancelledError from None
                continue
            if exc is not None:
                raise exc
            return outcome.result()

    def _begin_to_await(
        self,
        batch: Batch,
        awaitable: Awaitable[Any],
        outcome: "concurrent.futures.Future[Any]",
    ) -> None:
        task = batch.task = self._create_task(self._await(batch, awaitable))
        task.add_done_callback(partial(self._awaited, batch, awaitable, outcome))
        if self._is_shut_down and self.cancels_on_shutdown:
            task.cancel()

    async def _await(
        self, batch: Batch, awaitable: Awaitable[Any]
    ) -> tuple[Any, BaseException | None]:
        """Return the result and the exception: some of what a job may raise would end the loop."""
        try:
            return await awaitable, None
        except GeneratorExit:  # an abandoned coroutine is being taken apart
            raise
        except self.cancellations as exc:
            if batch.is_being_cancelled:
                raise
            return None, exc
        except BaseException as exc:
            return None, exc

    def _awaited(
        self,
        batch: Batch,
        awaitable: Awaitable[Any],
        outcome: "concurrent.futures.Future[Any]",
        task: LoopTask,
    ) -> None:
        _close(awaitable)  # if it was cancelled before it began
        if task.cancelled():
            outcome.set_exception(RunCancelledError())
            return
        result, exc = task.result()
        if exc is None:
            outcome.set_result(result)
        else:
            outcome.set_exception(exc)

    # Cancellation

    def _cancel(self, batches: Sequence[Batch], ends_running: bool) -> None:
        """Take back what has not begun, on the thread of the loop.

        :param ends_running: also cancel coroutines that have begun
        """
        own = own_run_times()
        for batch in batches:
            if batch.run_times is own:
                continue
            if batch.task is not None:
                if ends_running or not batch.has_begun:
                    batch.task.cancel()
                continue
            with self._lock:
                waits = not batch.has_begun
                if waits:
                    batch.has_begun = True  # the thread that comes for it is too late
            if waits:
                if batch.future is not None:
                    batch.future.cancel()
                self._cancelled(batch)

    def _report_without_loop(
        self, batches: Sequence[Batch], ends_running: bool
    ) -> None:
        """Report what a loop that does not run has left behind; functions in threads report by themselves.

        :param ends_running: also coroutines that have begun: what becomes of them is unknown
        """
        for batch in batches:
            if batch.report is not None:
                batch.report()
                continue
            with self._lock:
                waits = not batch.has_begun
                batch.has_begun = True  # whoever comes for it is too late
            is_abandoned = batch.is_awaiting or not batch.is_in_thread
            if waits:
                self._cancelled(batch)
            elif ends_running and is_abandoned:
                self._note_abandoned(batch)
                self._cancelled(batch)

    def _wait_for(self, batches: Sequence[Batch]) -> None:
        """Wait, in a thread, for what goes on, except for jobs that wait in the same way."""
        own = own_run_times()
        with self._lock:
            for batch in batches:
                batch.waits |= batch.run_times is own
            others = [batch for batch in batches if not batch.waits]
        for batch in others:
            ended = threading.Event()
            self._call_when_reported(batch, ended.set)
            while self._goes_on(batch) and not ended.wait(LOOP_CHECK_SECONDS):
                pass

    def _goes_on(self, batch: Batch) -> bool:
        """Return whether a batch will come to its end, be it on a loop that runs or in a thread beside it."""
        is_in_thread = batch.is_in_thread and batch.report is None
        return self._is_running() or (is_in_thread and not batch.is_awaiting)

    # The loop

    def _belongs_on_loop(self, func: Callable[..., Any]) -> bool:
        """Return whether the function is to be called on the loop, and not in a thread."""
        return iscoroutinefunction_partial(func)

    @abstractmethod
    def _is_on_loop(self) -> bool:
        """Return whether this is the thread of the loop, and it is running."""

    @abstractmethod
    def _is_running(self) -> bool:
        """Return whether the loop goes on while this thread, another than that of the loop, waits for it."""

    @abstractmethod
    def _is_closed(self) -> bool:
        """Return whether the loop has come to its end for good."""

    @abstractmethod
    def _call_soon(self, func: Callable[..., object], *args: Any) -> None:
        """Have a function called on the loop, from any thread.

        :raises RuntimeError: if the loop has come to its end
        """

    @abstractmethod
    def _create_task(self, coroutine: Coroutine[Any, Any, Any]) -> LoopTask:
        """Have a coroutine run on the loop, soon and in the context of the caller, who is on the loop."""

    @abstractmethod
    def _call_in_thread(self, func: Callable[[], None]) -> Any:
        """Have a function called in a thread; return None, or a future whose ``cancel()`` saves the thread from that."""


def loop_of(scheduler: "BaseScheduler", attribute: str, executor: str) -> Any:
    """Return the event loop that a scheduler keeps in this attribute.

    :raises AttributeError: if it has none, as in APScheduler 3
    """
    loop = getattr(scheduler, attribute, None)
    if loop is None:
        raise AttributeError(
            f"The {executor} runs jobs on the event loop of its scheduler ({attribute!r}), which "
            f"{type(scheduler).__name__} does not have: use a scheduler with such a loop, or another executor"
        )
    return loop


def _close(awaitable: Awaitable[Any]) -> None:
    if iscoroutine(awaitable):
        awaitable.close()
