"""Executors that run jobs in a pool of threads or of processes."""

import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.runs import running
from apscheduler.util import is_program_ending

if TYPE_CHECKING:
    from apscheduler.executors.pool.process import ProcessPoolExecutor
    from apscheduler.executors.pool.workers import WorkerError
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler

__all__ = (
    "BasePoolExecutor",
    "ProcessPoolExecutor",
    "ThreadPoolExecutor",
    "WorkerError",
)


def __getattr__(name: str) -> Any:
    """Load what belongs to worker processes when somebody asks for it."""
    if name == "ProcessPoolExecutor":
        from apscheduler.executors.pool.process import ProcessPoolExecutor

        return ProcessPoolExecutor
    if name == "WorkerError":
        from apscheduler.executors.pool.workers import WorkerError

        return WorkerError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class BasePoolExecutor(BaseExecutor):
    """Runs jobs in any pool that works like those of ``concurrent.futures``.

    :param pool: has ``shutdown(wait)``, and ``submit``, which returns a future with ``add_done_callback``,
        ``exception`` and ``result``
    """

    runs_coroutines = False

    def __init__(self, pool: Any):
        super().__init__()
        self._pool = pool
        self._is_shut_down = False
        self._reporting = threading.local()

    def start(self, scheduler: "BaseScheduler", alias: str) -> None:
        super().start(scheduler, alias)
        if self._is_shut_down:
            self._pool = self._make_pool()
            self._leave_behind()
            self._is_shut_down = False

    def capacity(self) -> int | None:
        # When the main thread has ended the pools of Python take nothing more: what is due then is left in its store.
        if self.slots is not None and is_program_ending():
            return 0
        return super().capacity()

    def shutdown(self, wait: bool = True) -> None:
        """Refuse further work; what was submitted is still done.

        :param wait: return only when it is done. A job or listener that calls this from within the pool does not
            wait, since it would wait for itself
        """
        self._is_shut_down = True
        self._pool.shutdown(wait and not self._is_called_from_run())

    def _make_pool(self) -> Any:
        """Return the pool to use after a restart: the old one, if this executor cannot make another."""
        return self._pool

    def _do_submit_job(self, job: "Job", run_times: list[datetime]) -> None:
        future = self._pool.submit(
            run_job, job, job._jobstore_alias, run_times, self._logger.name
        )
        future.add_done_callback(partial(self._run_ended, job, run_times))

    def _run_ended(
        self, job: "Job", run_times: Sequence[datetime], future: Any
    ) -> None:
        """Report what became of a submission; called in a thread of the pool."""
        self._reporting.is_active = True
        try:
            exc = exception_of(future)
            if exc is None:
                self._run_job_success(job.id, future.result())
            else:
                self._run_job_error(job.id, exc, exc.__traceback__, job, run_times)
        finally:
            self._reporting.is_active = False

    def _is_called_from_run(self) -> bool:
        """Return whether the caller is a job of this executor, or a listener that is told of one."""
        if getattr(self._reporting, "is_active", False):
            return True
        current = running.get()
        return current is not None and current.job.id in self._instances


class _Work:
    """What the threads of one pool have to do, and how many of them are at it.

    :ivar threads: how many were asked for and have not left
    :ivar awaits_thread: whether one of them has not come yet
    """

    def __init__(self) -> None:
        self.waiting: deque[tuple[Job, list[datetime]]] = deque()
        self.threads = 0
        self.awaits_thread = False


class ThreadPoolExecutor(BasePoolExecutor):
    """Runs jobs in a pool of threads.

    A thread that has finished a run goes on with the next one by itself, and one that begins a run while others wait has
    the next thread come: the pool is not asked for a thread for each run, which costs several times as much as a short
    run, and no more threads are woken than find something to do.

    :param max_workers: how many jobs run at a time
    :param pool_kwargs: further arguments of :class:`concurrent.futures.ThreadPoolExecutor`
    :raises ValueError: if the number of workers is not at least 1
    """

    slots: int

    def __init__(
        self, max_workers: int | str = 10, pool_kwargs: Mapping[str, Any] | None = None
    ):
        self.slots = count_workers(max_workers)
        self.pool_kwargs = dict(pool_kwargs or {})
        super().__init__(self._make_pool())

    def _make_pool(self) -> concurrent.futures.ThreadPoolExecutor:
        self._work = _Work()
        self._waiting: set[threading.Thread] = set()
        self._threads: list[threading.Thread] = []
        kwargs = dict(self.pool_kwargs)
        user_call = kwargs.pop("initializer", None), kwargs.pop("initargs", ())
        return concurrent.futures.ThreadPoolExecutor(
            self.slots,
            initializer=_enter_thread,
            # The list and not this executor, which its threads would keep alive.
            initargs=(self._threads, *user_call),
            **kwargs,
        )

    def _do_submit_job(self, job: "Job", run_times: list[datetime]) -> None:
        if self._is_shut_down:
            raise RuntimeError("The thread pool takes no more runs after its shutdown")
        work, entry = self._work, (job, run_times)
        work.waiting.append(entry)
        # A look without the lock will do: a thread that leaves, or comes, looks at what is waiting after it has said so.
        if work.awaits_thread or work.threads >= self.slots:
            return
        try:
            self._ask_for_thread(work)
        except BaseException:  # the interpreter is shutting down
            with self._lock:
                if entry not in work.waiting:
                    return  # a thread has taken it already
                work.waiting.remove(entry)
            raise

    def _ask_for_thread(self, work: _Work, at_once: bool = False) -> None:
        """Have a thread come, if there are not all.

        :param at_once: also while one is on its way, which would have the next come
        """
        with self._lock:
            if work.threads >= self.slots or (work.awaits_thread and not at_once):
                return
            work.threads += 1
            work.awaits_thread = True
        try:
            future = self._pool.submit(self._do_work, work)
        except BaseException:
            with self._lock:
                work.threads -= 1
                work.awaits_thread = False
            raise
        future.add_done_callback(partial(self._thread_left, work))

    def _thread_left(self, work: _Work, future: Any) -> None:
        """Report what is left behind when the pool did not give the thread that was asked for."""
        exc = exception_of(future)
        if exc is None:
            return
        with self._lock:
            work.threads -= 1
            work.awaits_thread = False
            left = [] if work.threads else list(work.waiting)
            if left:
                work.waiting.clear()
        for job, run_times in left:
            self._run_job_error(job.id, exc, exc.__traceback__, job, run_times)

    def _do_work(self, work: _Work) -> None:
        """Carry out what is waiting; called in a thread of the pool."""
        work.awaits_thread = False
        while True:
            try:
                job, run_times = work.waiting.popleft()
            except IndexError:
                with self._lock:
                    work.threads -= 1
                    if (
                        not work.waiting
                    ):  # what is added from here on finds that a thread is missing
                        return
                    work.threads += 1
                continue
            if work.waiting and work.threads < self.slots:
                self._ask_for_next_thread(work)
            try:
                self._run(job, run_times)
            except Exception:
                self._logger.exception("Error reporting a run of job %s", job.id)

    def _ask_for_next_thread(self, work: _Work, at_once: bool = False) -> None:
        try:
            self._ask_for_thread(work, at_once)
        except Exception as exc:  # those that are there do it all
            self._logger.debug("The pool gives no more threads: %s", exc)

    def _run(self, job: "Job", run_times: list[datetime]) -> None:
        try:
            alias: Any = job._jobstore_alias
            events = run_job(job, alias, run_times, self._logger.name)
        except BaseException as exc:
            self._run_job_error(job.id, exc, exc.__traceback__, job, run_times)
        else:
            self._run_job_success(job.id, events)

    def shutdown(self, wait: bool = True) -> None:
        """Refuse further work; what was submitted is still done.

        :param wait: return only when it is done. A job or listener that calls this from within the pool waits for
            all others, except for those that wait in the same way
        """
        # The pool gives no more threads afterwards.
        for _ in range(len(self._work.waiting)):
            self._ask_for_next_thread(self._work, at_once=True)
        caller = threading.current_thread()
        if not wait or caller not in self._threads:
            super().shutdown(wait)
            return
        super().shutdown(False)
        with (
            self._lock
        ):  # of two jobs that shut down, only the first may wait for the other
            self._waiting.add(caller)
            others = [thread for thread in self._threads if thread not in self._waiting]
        for thread in others:
            thread.join()


def exception_of(future: Any) -> BaseException | None:
    try:
        exc: BaseException | None = future.exception()
    except concurrent.futures.CancelledError as cancelled:
        return cancelled
    return exc


def _enter_thread(
    threads: list[threading.Thread],
    initializer: Callable[..., None] | None,
    initargs: Sequence[Any],
) -> None:
    threads.append(threading.current_thread())
    if initializer is not None:
        initializer(*initargs)


def count_workers(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ValueError(
            f"'max_workers' must be a whole number of at least 1, but is {value!r}"
        )
    return number
