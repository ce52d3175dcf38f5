"""Executors that run jobs in a pool of threads or of processes."""

import concurrent.futures
import multiprocessing
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.executors.pool.workers import (
    Batch,
    StartLog,
    WorkerError,
    run_in_worker,
    start_worker,
    unpack,
)
from apscheduler.runs import running

if TYPE_CHECKING:
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler

__all__ = (
    "BasePoolExecutor",
    "ProcessPoolExecutor",
    "ThreadPoolExecutor",
    "WorkerError",
)


class BasePoolExecutor(BaseExecutor):
    """Runs jobs in any pool that works like those of ``concurrent.futures``.

    :param pool: has ``shutdown(wait)``, and ``submit``, which returns a future with ``add_done_callback``,
        ``exception`` and ``result``
    """

    def __init__(self, pool: Any):
        super().__init__()
        self._pool = pool
        self._is_shut_down = False
        self._reporting = threading.local()

    def start(self, scheduler: "BaseScheduler", alias: str) -> None:
        super().start(scheduler, alias)
        if self._is_shut_down:
            self._pool = self._make_pool()
            self._is_shut_down = False

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
            exc = _exception_of(future)
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


class ThreadPoolExecutor(BasePoolExecutor):
    """Runs jobs in a pool of threads.

    :param max_workers: how many jobs run at a time
    :param pool_kwargs: further arguments of :class:`concurrent.futures.ThreadPoolExecutor`
    :raises ValueError: if the number of workers is not at least 1
    """

    def __init__(
        self, max_workers: int | str = 10, pool_kwargs: Mapping[str, Any] | None = None
    ):
        self.slots = _count_workers(max_workers)
        self.pool_kwargs = dict(pool_kwargs or {})
        super().__init__(self._make_pool())

    def _make_pool(self) -> concurrent.futures.ThreadPoolExecutor:
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

    def shutdown(self, wait: bool = True) -> None:
        """Refuse further work; what was submitted is still done.

        :param wait: return only when it is done. A job or listener that calls this from within the pool waits for
            all others, except for those that wait in the same way
        """
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


class ProcessPoolExecutor(BasePoolExecutor):
    """Runs jobs in a pool of worker processes, started with the method ``spawn`` unless told otherwise.

    :param max_workers: how many jobs run at a time
    :param pool_kwargs: further arguments of :class:`concurrent.futures.ProcessPoolExecutor`; ``mp_context`` may also
        be the name of a start method
    :raises ValueError: if the number of workers is not at least 1
    """

    def __init__(
        self, max_workers: int | str = 10, pool_kwargs: Mapping[str, Any] | None = None
    ):
        self.slots = _count_workers(max_workers)
        self.pool_kwargs = {"mp_context": "spawn", **(pool_kwargs or {})}
        context = self.pool_kwargs["mp_context"]
        if isinstance(context, str):
            self.pool_kwargs["mp_context"] = multiprocessing.get_context(context)
        # Protects which pool is in use. Not held while calling a pool, which may be waiting for its own callbacks.
        self._pool_lock = threading.Lock()
        self._broken_pool: Any = None
        super().__init__(self._make_pool())

    def _make_pool(self) -> concurrent.futures.ProcessPoolExecutor:
        kwargs = dict(self.pool_kwargs)
        self._starts = StartLog(kwargs["mp_context"])
        user_call = kwargs.pop("initializer", None), kwargs.pop("initargs", ())
        return concurrent.futures.ProcessPoolExecutor(
            self.slots,
            initializer=start_worker,
            initargs=(*self._starts.worker_end, *user_call),
            **kwargs,
        )

    def shutdown(self, wait: bool = True) -> None:
        """Refuse further work; what was submitted is still done.

        :param wait: return only when it is done. A listener that calls this while it is told of a run of this pool
            does not wait, since the thread that tells it is the one to wait for
        """
        wait = wait and not self._is_called_from_run()
        with self._pool_lock:
            self._is_shut_down = True
            pools = [self._broken_pool, self._pool]
            self._broken_pool = None
        for pool in pools:
            if pool is not None:
                pool.shutdown(wait)

    def _do_submit_job(self, job: "Job", run_times: list[datetime]) -> None:
        call = (job, job._jobstore_alias, run_times, self._logger.name)
        # Pickled here and not by the pool, which breaks when a worker fails to unpickle something.
        batch = Batch(job, run_times, pickle.dumps(call))
        try:
            self._submit_batch(batch)
        except BrokenProcessPool:
            self._replace_pool(batch.pool)
            self._submit_batch(batch)

    def _submit_batch(self, batch: Batch) -> None:
        with self._pool_lock:
            batch.pool, batch.starts = self._pool, self._starts
        future = batch.pool.submit(run_in_worker, batch.number, batch.call)
        future.add_done_callback(partial(self._batch_ended, batch))

    def _replace_pool(self, broken: Any) -> None:
        """Make a new pool, unless that was done since this one broke.

        :raises RuntimeError: if the executor was shut down
        """
        with self._pool_lock:
            if self._is_shut_down:
                raise RuntimeError("The process pool broke after it was shut down")
            if self._pool is not broken:
                return
            self._logger.warning("The process pool is broken and is being replaced")
            self._broken_pool = broken  # some of its batches may not have been reported
            self._pool = self._make_pool()

    def _batch_ended(self, batch: Batch, future: Any) -> None:
        """Report what became of a submission; called in the thread that manages the pool."""
        job, run_times = batch.job, batch.run_times
        self._reporting.is_active = True
        try:
            exc = _exception_of(future)
            if exc is None:
                batch.starts.forget(batch.number)
                self._run_job_success(job.id, unpack(future.result()))
                return
            if isinstance(exc, BrokenProcessPool):
                exc = self._try_again(batch, exc)
                if exc is None:
                    return
            batch.starts.forget(batch.number)
            self._run_job_error(job.id, exc, exc.__traceback__, job, run_times)
        finally:
            self._reporting.is_active = False

    def _try_again(
        self, batch: Batch, broken: BrokenProcessPool
    ) -> BaseException | None:
        """Submit a batch that a broken pool did not start once more; return an exception if that cannot be done."""
        if batch.starts.give_up(batch.number):
            failure = BrokenProcessPool(
                f"A worker process died while job {batch.job.id!r} was running in it or beside it: "
                "how far it came is not known"
            )
            failure.__cause__ = broken
            return failure
        if batch.is_second_try:
            failure = BrokenProcessPool(
                f"Worker processes died twice before they started job {batch.job.id!r}. If the program is a script, "
                'everything that it does must be below: if __name__ == "__main__"'
            )
            failure.__cause__ = broken
            return failure
        batch.is_second_try = True
        try:
            self._replace_pool(batch.pool)
            self._submit_batch(batch)
        except Exception as exc:  # whatever it is, it is reported
            return exc
        return None


def _exception_of(future: Any) -> BaseException | None:
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


def _count_workers(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ValueError(
            f"'max_workers' must be a whole number of at least 1, but is {value!r}"
        )
    return number
