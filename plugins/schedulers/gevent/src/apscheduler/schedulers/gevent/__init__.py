"""A scheduler that runs in a greenlet."""

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gevent
from gevent import Greenlet, getcurrent, monkey
from gevent._hub_local import get_hub_if_exists

from apscheduler.engine import PassThread
from apscheduler.events import SchedulerEvent
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.schedulers.gevent.passes import PassWorker
from apscheduler.schedulers.gevent.waiting import (
    AnyLock,
    HubEvent,
    NativeThreads,
    call_on_hub,
    create_event,
)
from apscheduler.threads import Threads

# Shutting down waits so long for a pass that hangs in a store; its greenlet is then left to itself.
JOIN_SECONDS = 5.0


class GeventScheduler(BlockingScheduler):
    """A scheduler for gevent programs: ``start()`` returns the greenlet that processes jobs.

    Where sockets and threads are not patched, passes over stores that do I/O are made in a real thread. Listeners
    are called in greenlets, except for events that come from an API call or a job in another thread.
    """

    default_executor = "gevent"

    _greenlet: Greenlet | None = None
    _hub: Any = None
    _worker: PassWorker | None = None

    def __init__(self, gconfig: Mapping[str, Any] | None = None, **options: Any):
        # What has come from threads and is to be told in a greenlet.
        self._untold: deque[SchedulerEvent] = deque()
        super().__init__(gconfig, **options)

    def _create_lock(self) -> Any:
        return AnyLock()

    def _create_event(self) -> Any:
        return create_event()

    def _get_ident(self) -> int:
        return id(getcurrent())

    # Life cycle

    def start(self, paused: bool = False) -> Greenlet:  # type: ignore[override]  # as in APScheduler 3
        """Start the scheduler and return the greenlet in which jobs are processed.

        It belongs to the hub of the thread that calls this, and ends when the scheduler has been shut down.

        :param paused: process nothing before :meth:`resume` is called
        :raises SchedulerAlreadyRunningError: if the scheduler is running, or still being shut down
        """
        before = self._event
        try:
            BaseScheduler.start(self, paused=paused)
        except BaseException:
            if self._event is not before:
                self._event.close()
            raise
        self._greenlet = gevent.spawn(self._run, self._event, self._worker)
        return self._greenlet

    def _prepare_loop(self) -> None:
        self._hub = gevent.get_hub()
        self._event = HubEvent()
        self._worker = None if _is_cooperative() else PassWorker()
        self._threads = NativeThreads(self._hub) if _has_green_threads() else Threads()

    def _run(self, event: HubEvent, worker: PassWorker | None) -> None:
        try:
            if self._event is event:  # and not that of another start before this got its turn
                self._main_loop()
        finally:
            event.close()
            if worker is not None:
                worker.end()

    def shutdown(self, wait: bool | float = True) -> None:
        """Shut down executors and stores, and wait for the greenlet. Running jobs are not interrupted.

        Callable from any thread, as long as the hub of the scheduler runs: it is done there.

        :param wait: return only when all runs that were started have ended; a number: wait so many seconds at most
        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        if self.running and not (self._is_on_hub() or _is_pass_thread()):
            call_on_hub(self._hub, self.shutdown, wait)
            return
        greenlet = self._greenlet
        super().shutdown(wait)
        if greenlet is None or greenlet is getcurrent() or not self._is_on_hub():
            return
        greenlet.join(JOIN_SECONDS)
        if self._greenlet is greenlet:  # and no listener has started the scheduler again
            self._greenlet = None

    def _finish_shutdown(self, wait: bool | float) -> None:
        worker = self._worker
        if worker is None or not (self._performs_io() and self._is_on_hub()):
            super()._finish_shutdown(wait)
            return
        # In the context of the caller: if that is a job, it does not wait for itself.
        finish = partial(contextvars.copy_context().run, super()._finish_shutdown, wait)
        another = PassWorker()  # a pass may hang in the first one
        try:
            another.call(finish)
        finally:
            another.end()
            self._tell_untold()

    def _leave_to_parent(self) -> None:
        super()._leave_to_parent()
        self._greenlet = self._hub = self._worker = None

    # The loop

    def _make_pass(self) -> float | None:
        worker = self._worker
        if worker is None or not self._performs_io():
            return super()._make_pass()
        wait_seconds: float | None = worker.call(super()._make_pass)
        return wait_seconds

    @property
    def _uses_threads(self) -> bool:  # type: ignore[override]  # here it depends
        # Green ones do not hold up the hub, nor do real ones for which another real one waits.
        return self._worker is not None or _has_green_threads()

    def _performs_io(self) -> bool:
        for alias, jobstore in list(self._jobstores.items()):
            if self._engine.add(alias, jobstore).store.performs_io:
                return True
        return False

    def _run_aside(self, func: Callable[[], None]) -> None:
        if self._worker is not None and self._is_on_hub():
            PassThread(target=func, name="APScheduler closing", daemon=False).start()
        else:
            func()

    def _is_on_hub(self) -> bool:
        return self._hub is None or get_hub_if_exists() is self._hub

    # Listeners

    def _notify_listeners(self, event: SchedulerEvent) -> None:
        if self._is_on_hub():
            self._tell_untold()  # the order matters
        elif _is_pass_thread():
            self._untold.append(event)
            self._hub.loop.run_callback_threadsafe(gevent.spawn, self._tell_untold)
            return
        super()._notify_listeners(event)

    def _tell_untold(self) -> None:
        """Tell listeners of the events that have come from threads."""
        while self._untold:
            event = self._untold[0]
            self._being_told.append(event)
            self._untold.popleft()
            try:
                super()._notify_listeners(event)
            finally:
                self._being_told.remove(event)

    @property
    def _is_telling(self) -> bool:
        return super()._is_telling or bool(self._untold)


def _is_cooperative() -> bool:
    """Return whether what waits for a store is supposed to let other greenlets go on."""
    return monkey.is_module_patched("socket") or _has_green_threads()


def _has_green_threads() -> bool:
    return bool(monkey.is_module_patched("threading"))


def _is_pass_thread() -> bool:
    return isinstance(threading.current_thread(), PassThread)
