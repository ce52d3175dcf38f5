"""An executor that runs coroutine functions on a Tornado loop, and other functions beside it in threads of its own."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tornado.gen import is_coroutine_function
from tornado.ioloop import IOLoop

from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.executors.looping import loop_of

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler


class TornadoExecutor(AsyncIOExecutor):
    """Runs coroutine functions on the scheduler's loop, and other functions in a pool of threads.

    Jobs can be submitted from any thread. Listeners hear of their outcome on the loop's thread. Shutting down lets
    everything go on that has begun.

    :param max_workers: how many functions run at a time; coroutines do not count
    :raises ValueError: if the number of workers is not at least 1
    """

    cancels_on_shutdown = False  # as in APScheduler 3

    executor: concurrent.futures.ThreadPoolExecutor
    _ioloop: IOLoop

    def __init__(self, max_workers: int | str = 10):
        super().__init__()
        self._max_workers = _count(max_workers)
        self.executor = self._make_pool()

    def _make_pool(self) -> concurrent.futures.ThreadPoolExecutor:
        return concurrent.futures.ThreadPoolExecutor(
            self._max_workers, "APScheduler Tornado"
        )

    def start(self, scheduler: "BaseScheduler", alias: str) -> None:
        if self._is_shut_down:
            self.executor = self._make_pool()
        super().start(scheduler, alias)

    def _find_loop(self, scheduler: "BaseScheduler") -> asyncio.AbstractEventLoop:
        self._ioloop = loop_of(scheduler, "_ioloop", "TornadoExecutor")
        loop: asyncio.AbstractEventLoop = self._ioloop.asyncio_loop  # type: ignore[attr-defined]  # all loops have it
        return loop

    def shutdown(self, wait: bool = True) -> None:
        super().shutdown(wait)
        self._is_shut_down = True  # the pool is there before the first start
        self.executor.shutdown(wait=False)  # a job cannot wait for its own thread

    def _belongs_on_loop(self, func: Callable[..., Any]) -> bool:
        while isinstance(func, partial):
            func = func.func
        return is_coroutine_function(func) or super()._belongs_on_loop(func)

    def _call_in_thread(self, func: Callable[[], None]) -> Any:
        return self.executor.submit(func)


def _count(max_workers: int | str) -> int:
    try:
        number = int(max_workers)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ValueError(
            f"'max_workers' must be a whole number of at least 1, but is {max_workers!r}"
        )
    return number
