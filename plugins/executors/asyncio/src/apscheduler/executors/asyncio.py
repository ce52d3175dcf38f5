"""An executor that runs coroutine functions on an asyncio event loop, and other functions beside it in threads."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler.executors.batches import Batch
from apscheduler.executors.looping import LoopExecutor, loop_of

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler


class AsyncIOExecutor(LoopExecutor):
    """Runs coroutine functions as tasks on the scheduler's event loop, other functions in the loop's default executor.

    Jobs can be submitted from any thread. Listeners hear of their outcome on the loop's thread. Shutting down cancels
    coroutines.
    """

    cancellations = (asyncio.CancelledError,)
    cancels_on_shutdown = True  # as in APScheduler 3

    _eventloop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self._pending_futures: set[asyncio.Future[Any]] = set()

    def start(self, scheduler: "BaseScheduler", alias: str) -> None:
        super().start(scheduler, alias)
        self._eventloop = self._find_loop(scheduler)
        self._pending_futures = set()

    def _find_loop(self, scheduler: "BaseScheduler") -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = loop_of(
            scheduler, "_eventloop", "AsyncIOExecutor"
        )
        return loop

    async def wait_closed(self) -> None:
        """Wait until everything that was submitted has ended, except for the job that waits."""
        loop = asyncio.get_running_loop()
        for batch in self._others():
            ended = loop.create_future()
            self._call_when_reported(batch, partial(_resolve_soon, ended))
            await ended

    def _is_on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._eventloop
        except RuntimeError:
            return False

    def _is_running(self) -> bool:
        return self._eventloop.is_running()

    def _is_closed(self) -> bool:
        return self._eventloop.is_closed()

    def _call_soon(self, func: Callable[..., object], *args: Any) -> None:
        self._eventloop.call_soon_threadsafe(func, *args)

    def _create_task(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = self._eventloop.create_task(coroutine)
        self._pending_futures.add(task)
        return task

    def _call_in_thread(self, func: Callable[[], None]) -> Any:
        future = self._eventloop.run_in_executor(None, func)
        self._pending_futures.add(future)
        future.add_done_callback(self._pending_futures.discard)
        return future

    def _awaited(self, batch: Batch, awaitable: Any, outcome: Any, task: Any) -> None:
        self._pending_futures.discard(task)
        super()._awaited(batch, awaitable, outcome, task)

    def _take(self, batch: Batch) -> bool:
        # The future of a thread is done some time after the loop has reported what went on in it.
        for future in (batch.future, batch.task):
            self._pending_futures.discard(future)
        return super()._take(batch)


def _resolve_soon(ended: "asyncio.Future[None]") -> None:
    try:
        ended.get_loop().call_soon_threadsafe(_resolve, ended)
    except RuntimeError:  # its loop was closed: nobody waits any more
        pass


def _resolve(ended: "asyncio.Future[None]") -> None:
    if not ended.done():
        ended.set_result(None)
