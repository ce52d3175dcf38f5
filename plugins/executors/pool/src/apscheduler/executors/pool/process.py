"""The executor that runs jobs in worker processes; apart, since loading it takes a while and few programs need it."""

import concurrent.futures
import multiprocessing
import pickle
import threading
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler.executors.pool import BasePoolExecutor, count_workers, exception_of
from apscheduler.executors.pool.workers import (
    Batch,
    StartLog,
    run_in_worker,
    start_worker,
    unpack,
)

if TYPE_CHECKING:
    from apscheduler.job import Job


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
        self.slots = count_workers(max_workers)
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
        known = _count_processes(batch.pool)
        future = batch.pool.submit(run_in_worker, batch.number, batch.call)
        if _count_processes(batch.pool) > known:
            _make_manager_look(batch.pool)
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
            exc = exception_of(future)
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
        """Submit a batch that a broken pool did not start once more; return an exception if that cannot be done.

        After the shutdown it is reported as lost before it began, so that it can be run elsewhere.
        """
        if batch.starts.give_up(batch.number):
            failure = BrokenProcessPool(
                f"A worker process died while job {batch.job.id!r} was running in it or beside it: "
                "how far it came is not known"
            )
            failure.__cause__ = broken
            return failure
        if batch.is_second_try and not self._is_shut_down:
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
            if not self._is_shut_down:
                return exc
            self._run_job_lost(batch.job, batch.run_times)
        return None


def _count_processes(pool: Any) -> int:
    return len(getattr(pool, "_processes", None) or ())


def _make_manager_look(pool: Any) -> None:
    """Have the manager of a process pool watch a worker that was just started.

    ``submit`` wakes it before it starts the worker. If the manager is quick, it goes on to wait without knowing of
    the worker, and does not notice its death until something else wakes it. There is no public way to do that.
    """
    wakeup = getattr(pool, "_executor_manager_thread_wakeup", None)
    lock = getattr(pool, "_shutdown_lock", None)
    if wakeup is not None and lock is not None:
        with lock:
            wakeup.wakeup()
