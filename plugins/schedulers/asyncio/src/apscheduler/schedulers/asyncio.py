"""A scheduler that runs on an asyncio event loop and never holds it up."""

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

from apscheduler.schedulers.looping import EventLoop, LoopScheduler, run_on_loop
from apscheduler.util import maybe_ref

# Its name in APScheduler 3.
run_in_event_loop = run_on_loop


class AsyncIOLoop(EventLoop):
    """An asyncio event loop as a scheduler sees it."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop

    def call_soon(self, func: Callable[..., object], *args: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(func, *args)
        except RuntimeError:  # it was closed
            return False
        return True

    def call_later(
        self, seconds: float, func: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, func, *args)

    def is_current(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def is_running(self) -> bool:
        return self._loop.is_running()


class AsyncIOScheduler(LoopScheduler):
    """A scheduler for asyncio programs. Coroutine functions run on the event loop, other functions beside it.

    Passes over stores that do I/O are made in a thread. Listeners are called on the event loop, except for events
    that come from an API call or a job in another thread.
    """

    config_keys = frozenset({"event_loop"})
    default_executor = "asyncio"

    _eventloop: asyncio.AbstractEventLoop | None = None
    _configured_loop: asyncio.AbstractEventLoop | None = None

    def _configure(self, config: dict[str, Any]) -> None:
        loop = maybe_ref(config.pop("event_loop", None))
        if loop is not None and not hasattr(loop, "call_soon_threadsafe"):
            raise TypeError(
                f"'event_loop' must be an asyncio event loop or a reference to one, got {loop!r}"
            )
        self._configured_loop = self._eventloop = loop
        super()._configure(config)

    # Life cycle

    def start(self, paused: bool = False) -> None:
        """Start the scheduler on the event loop that is running, unless another was configured, and return.

        :param paused: process nothing before :meth:`resume` is called
        :raises SchedulerAlreadyRunningError: if the scheduler is running, or still being shut down
        :raises RuntimeError: if there is no event loop
        """
        super().start(paused)

    def _open_loop(self) -> AsyncIOLoop:
        self._eventloop = self._find_loop()
        return AsyncIOLoop(self._eventloop)

    def _find_loop(self) -> asyncio.AbstractEventLoop:
        for loop in (self._eventloop, self._configured_loop):
            if loop is not None and not loop.is_closed():
                return loop
        try:
            return asyncio.get_running_loop()
        except RuntimeError as exc:
            raise RuntimeError(
                f"{type(self).__name__}.start() needs a running event loop: call it in a coroutine, "
                "or configure 'event_loop'"
            ) from exc

    def _forget_loop(self) -> None:
        self._eventloop = None

    def shutdown(self, wait: bool | float = True) -> None:
        """Shut down executors and stores; coroutines that jobs run are cancelled.

        On the thread of the event loop this returns at once: what takes time is done in a thread. There
        :meth:`wait_closed` waits for it. In any other thread this returns when it is done.

        :param wait: have it take until all runs that were started have ended; a number: let them go on for so many
            seconds at most before coroutines are cancelled
        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        super().shutdown(wait)

    async def wait_closed(self) -> None:
        """Wait until the scheduler has been shut down; return at once if it was never started.

        In a job this does not wait for the job itself if that has called :meth:`shutdown`.
        """
        life = self._life
        if life is not None:
            waiter = asyncio.get_running_loop().create_future()
            life.call_at_end(partial(_resolve_soon, waiter))
            await waiter

    async def __aenter__(self) -> Self:
        """Start the scheduler unless it is running."""
        if not self.running:
            self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut the scheduler down and wait until that is done."""
        if self.running:
            self.shutdown()
        await self.wait_closed()


def _resolve_soon(waiter: "asyncio.Future[None]") -> None:
    try:
        waiter.get_loop().call_soon_threadsafe(_resolve, waiter)
    except RuntimeError:  # its loop was closed: nobody waits any more
        pass


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
