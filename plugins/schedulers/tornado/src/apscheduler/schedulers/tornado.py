"""A scheduler that runs on a Tornado loop and never holds it up."""

import asyncio
import threading
from typing import Any

from tornado.ioloop import IOLoop

from apscheduler.schedulers.asyncio import AsyncIOLoop, AsyncIOScheduler
from apscheduler.schedulers.looping import run_on_loop
from apscheduler.util import maybe_ref

# Its name in APScheduler 3.
run_in_ioloop = run_on_loop


class TornadoScheduler(AsyncIOScheduler):
    """A scheduler for Tornado programs. Coroutine functions run on the loop, other functions beside it.

    Passes over stores that do I/O are made in a thread. Listeners are called on the loop, except for events that
    come from an API call or a job in another thread. The loops of Tornado are those of asyncio, so everything that
    works with an :class:`~apscheduler.schedulers.asyncio.AsyncIOScheduler` works here, too.
    """

    config_keys = frozenset({"io_loop"})
    default_executor = "tornado"

    _ioloop: IOLoop | None = None
    _configured_ioloop: IOLoop | None = None

    def _known_keys(self) -> frozenset[str]:
        return super()._known_keys() - {"event_loop"}

    def _configure(self, config: dict[str, Any]) -> None:
        loop = maybe_ref(config.pop("io_loop", None))
        if loop is not None and not isinstance(loop, IOLoop):
            raise TypeError(
                f"'io_loop' must be a tornado.ioloop.IOLoop or a reference to one, got {loop!r}"
            )
        self._configured_ioloop = self._ioloop = loop
        config.pop("event_loop", None)  # unknown here, and ignored like other such keys
        super()._configure(config)

    def start(self, paused: bool = False) -> None:
        """Start the scheduler on the current loop, unless another was configured, and return.

        The loop need not run: in the main thread it may be started afterwards.

        :param paused: process nothing before :meth:`resume` is called
        :raises SchedulerAlreadyRunningError: if the scheduler is running, or still being shut down
        :raises RuntimeError: if there is no loop
        """
        super().start(paused)

    def _open_loop(self) -> AsyncIOLoop:
        self._ioloop = self._find_ioloop()
        self._eventloop = _asyncio_loop_of(self._ioloop)
        return AsyncIOLoop(self._eventloop)

    def _find_ioloop(self) -> IOLoop:
        configured = self._configured_ioloop
        if configured is not None and not _asyncio_loop_of(configured).is_closed():
            return configured
        # Anywhere but in the main thread a loop that is not there yet is one that nobody runs.
        is_main = threading.current_thread() is threading.main_thread()
        loop = IOLoop.current(instance=is_main)
        if loop is None:
            raise RuntimeError(
                f"{type(self).__name__}.start() needs a loop: call it in the thread of the loop, or configure 'io_loop'"
            )
        return loop

    def _forget_loop(self) -> None:
        super()._forget_loop()
        self._ioloop = self._configured_ioloop

    def shutdown(self, wait: bool | float = True) -> None:
        """Shut down executors and stores; functions and coroutines that jobs run are not interrupted.

        On the thread of the loop this returns at once: what takes time is done in a thread. There
        :meth:`wait_closed` waits for it. In any other thread this returns when it is done.

        :param wait: have it take until all runs that were started have ended; a number: so many seconds at most
        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        super().shutdown(wait)


def _asyncio_loop_of(loop: IOLoop) -> asyncio.AbstractEventLoop:
    asyncio_loop: asyncio.AbstractEventLoop = loop.asyncio_loop  # type: ignore[attr-defined]  # all loops have it
    return asyncio_loop
